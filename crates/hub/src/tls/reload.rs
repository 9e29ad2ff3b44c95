//! What endpoints know of certificates, renewed while connections live: on SIGHUP, and when the files change.
//!
//! A connection keeps what it began with. Files that cannot be used change nothing but the log.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use super::certificate::Certificate;
use super::files::{Files, Stamp, Unusable, stamps};
use crate::event::{Event, Events};
use crate::opener::Opener;
use crate::shutdown::{Phase, Shutdown};

/// How often files are looked at. A change counts once two looks in a row saw the same: certificate and
/// key are seldom replaced in one moment.
const LOOK: Duration = Duration::from_secs(2);

/// Renews every TLS endpoint of a process; clones are handles on the same ones.
#[derive(Clone)]
pub struct TlsReloader {
    shared: Arc<Shared>,
}

struct Shared {
    opener: Arc<dyn Opener>,
    events: Events,
    endpoints: Mutex<Vec<Weak<dyn Renew>>>,
}

impl TlsReloader {
    /// No endpoint yet.
    pub fn new(opener: Arc<dyn Opener>, events: Events) -> Self {
        TlsReloader { shared: Arc::new(Shared { opener, events, endpoints: Mutex::default() }) }
    }

    /// Reads all files again, changed or not, as SIGHUP asks for; whether all of them could be used.
    /// Connections stay, and where files cannot be used, so does what was there before. Blocks for as
    /// long as the files take.
    pub fn reload_all(&self) -> bool {
        // Not `all`: one that fails must not keep the others from it.
        let renewed =
            self.endpoints().into_iter().filter(|endpoint| !endpoint.renew(self, When::Now)).count();
        renewed == 0
    }

    /// Looks whether files have changed, and whether certificates expire soon, until the hub stops.
    pub async fn watch(self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = shutdown.reached(Phase::Draining) => return,
            }
            let reloader = self.clone();
            let look = move || reloader.look();
            let _ = tokio::task::spawn_blocking(look).await;
        }
    }

    fn look(&self) {
        for endpoint in self.endpoints() {
            endpoint.renew(self, When::Changed);
        }
    }

    fn endpoints(&self) -> Vec<Arc<dyn Renew>> {
        let mut endpoints = self.shared.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        endpoints.retain(|endpoint| endpoint.strong_count() > 0);
        endpoints.iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn events(&self) -> &Events {
        &self.shared.events
    }
}

/// When to read files again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    Changed,
}

/// An endpoint that can be renewed.
trait Renew: Send + Sync {
    /// Whether what is there now is what the files say.
    fn renew(&self, reloader: &TlsReloader, when: When) -> bool;
}

/// How files become a configuration.
pub(super) type Load<T> = Box<dyn Fn(&mut Files<'_>) -> Result<T, Unusable> + Send + Sync>;

/// A configuration made of files, and replaced as a whole.
pub(super) struct Live<T> {
    name: String,
    load: Load<T>,
    present: Mutex<Present<T>>,
}

struct Present<T> {
    value: Arc<T>,
    /// Whether some of it came from a pipe, which is read once and empty then.
    piped: bool,
    /// The files as they were read, whether or not they could be used.
    read: Vec<(PathBuf, Stamp)>,
    /// As they were at the last look, if that was another state.
    changing: Option<Vec<(PathBuf, Stamp)>>,
    expiring: Vec<(PathBuf, Certificate)>,
    /// What was said last about a file's certificates.
    warned: Vec<(PathBuf, Remaining)>,
}

impl<T: Send + Sync + 'static> Live<T> {
    /// Reads the files for the first time, and renews what they say from now on.
    pub(super) fn open(name: String, reloader: &TlsReloader, load: Load<T>) -> Result<Arc<Self>, Unusable> {
        let mut files = Files::new(reloader.shared.opener.as_ref());
        let value = Arc::new(load(&mut files)?);
        let Files { stamps: read, expiring, .. } = files;
        let piped = is_piped(&read);
        let present = Present { value, piped, read, changing: None, expiring, warned: Vec::new() };
        let live = Arc::new(Live { name, load, present: Mutex::new(present) });
        live.warn_of_expiry(&mut live.lock(), reloader.events(), SystemTime::now());
        let renewed: Weak<dyn Renew> = Arc::downgrade(&(live.clone() as Arc<dyn Renew>));
        reloader.shared.endpoints.lock().unwrap_or_else(PoisonError::into_inner).push(renewed);
        Ok(live)
    }

    /// What a connection that begins now uses.
    pub(super) fn value(&self) -> Arc<T> {
        self.lock().value.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Present<T>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the files are to be read now.
    fn is_due(&self, opener: &dyn Opener, when: When) -> bool {
        let paths: Vec<PathBuf> = self.lock().read.iter().map(|(path, _)| path.clone()).collect();
        if paths.is_empty() {
            return false;
        }
        // Without the lock: an accept must not wait for a file.
        let now = stamps(opener, paths.into_iter());
        let mut present = self.lock();
        let same = now == present.read;
        let settled = present.changing.as_ref() == Some(&now);
        let readable = !present.piped || now.iter().all(|(_, stamp)| matches!(stamp, Stamp::File { .. }));
        present.changing = (!same).then_some(now);
        readable && (when == When::Now || (!same && settled))
    }

    fn warn_of_expiry(&self, present: &mut Present<T>, events: &Events, now: SystemTime) {
        for (path, certificate) in &present.expiring {
            let remaining = Remaining::of(certificate, now);
            let said = present.warned.iter_mut().find(|(said, _)| said == path);
            let before = said.as_ref().map_or(Remaining::Long, |(_, remaining)| *remaining);
            match said {
                Some((_, said)) => *said = remaining,
                None => present.warned.push((path.clone(), remaining)),
            }
            if remaining <= before {
                continue;
            }
            let file = &path.display().to_string();
            let (endpoint, expires) = (&self.name, &certificate.expires);
            match remaining {
                Remaining::None => events.emit(Event::CertificateExpired { endpoint, file, expires }),
                _ => events.emit(Event::CertificateExpires { endpoint, file, expires }),
            }
        }
    }
}

impl<T: Send + Sync + 'static> Renew for Live<T> {
    fn renew(&self, reloader: &TlsReloader, when: When) -> bool {
        let (opener, events) = (reloader.shared.opener.as_ref(), reloader.events());
        if !self.is_due(opener, when) {
            self.warn_of_expiry(&mut self.lock(), events, SystemTime::now());
            return true;
        }
        let mut files = Files::again(opener);
        let loaded = (self.load)(&mut files);
        let Files { stamps: read, expiring, .. } = files;
        let endpoint = &self.name;
        let mut present = self.lock();
        match loaded {
            Ok(value) => {
                let changed = present.read != read;
                let (value, piped) = (Arc::new(value), is_piped(&read));
                *present = Present { value, piped, read, changing: None, expiring, warned: Vec::new() };
                if changed {
                    let expires = present.expiring.first().map_or("", |(_, first)| &first.expires);
                    events.emit(Event::CertificatesRenewed { endpoint, expires });
                }
                self.warn_of_expiry(&mut present, events, SystemTime::now());
                true
            }
            Err(Unusable { why, .. }) => {
                // Not again before they change again.
                if let Some(changing) = present.changing.take() {
                    present.read = changing;
                }
                events.emit(Event::CertificatesKept { endpoint, why: &why });
                false
            }
        }
    }
}

fn is_piped(files: &[(PathBuf, Stamp)]) -> bool {
    files.iter().any(|(_, stamp)| *stamp == Stamp::Pipe)
}

/// How long a certificate is still valid, as far as it is worth a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Remaining {
    Long,
    Month,
    Week,
    Day,
    None,
}

impl Remaining {
    fn of(certificate: &Certificate, now: SystemTime) -> Self {
        const DAY: u64 = 24 * 60 * 60;
        match certificate.not_after.duration_since(now).map(|left| left.as_secs()) {
            Err(_) => Remaining::None,
            Ok(left) if left <= DAY => Remaining::Day,
            Ok(left) if left <= 7 * DAY => Remaining::Week,
            Ok(left) if left <= 30 * DAY => Remaining::Month,
            Ok(_) => Remaining::Long,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;
    use crate::opener::System;
    use crate::tls::testing;

    /// A file of certificates, and what looks after it.
    struct Site {
        _folder: tempfile::TempDir,
        path: PathBuf,
        certificate: String,
        events: Events,
        reloader: TlsReloader,
    }

    impl Site {
        /// There is one certificate in the file.
        fn new() -> Self {
            let (folder, events) = (tempfile::tempdir().unwrap(), Events::default());
            let site = Site {
                path: folder.path().join("x.pem"),
                _folder: folder,
                certificate: testing::server(&["a"]).cert.pem(),
                reloader: TlsReloader::new(Arc::new(System), events.clone()),
                events,
            };
            site.write(1);
            site
        }

        /// So many certificates are in the file.
        fn write(&self, certificates: usize) {
            std::fs::write(&self.path, self.certificate.repeat(certificates)).unwrap();
        }

        fn remove(&self) {
            std::fs::remove_file(&self.path).unwrap();
        }

        fn look(&self, times: usize) {
            (0..times).for_each(|_| self.reloader.look());
        }

        /// How many certificates are in the file, as those who use it see it.
        fn live(&self) -> Arc<Live<usize>> {
            let path = self.path.clone();
            let load: Load<usize> = Box::new(move |files| files.certificates(&path).map(|all| all.len()));
            Live::open("tls-listen://x".into(), &self.reloader, load).unwrap()
        }

        fn count(&self, kind: &str) -> u64 {
            self.events.counts().iter().find(|(name, _)| *name == kind).map_or(0, |(_, n)| *n)
        }
    }

    #[test]
    fn a_changed_file_is_taken_once_it_stands_still_and_a_bad_one_keeps_the_old() {
        let site = Site::new();
        let live = site.live();
        site.look(1);
        assert_eq!(*live.value(), 1);
        site.write(2);
        site.look(1);
        assert_eq!(*live.value(), 1, "it may still be changing");
        site.look(1);
        assert_eq!(*live.value(), 2);
        assert_eq!(site.count("certificates_renewed"), 1);
        std::fs::write(&site.path, "rubbish").unwrap();
        site.look(5);
        assert_eq!(*live.value(), 2);
        assert_eq!(site.count("certificates_kept"), 1, "said once");
        assert!(!site.reloader.reload_all());
        site.write(1);
        assert!(site.reloader.reload_all(), "asked for, it is read at once");
        assert_eq!(*live.value(), 1);
    }

    #[test]
    fn a_file_that_is_away_for_long_is_taken_when_it_is_there_again_and_asked_for_is_a_failure() {
        let site = Site::new();
        let live = site.live();
        site.remove();
        site.look(5);
        assert_eq!(site.count("certificates_kept"), 1, "said once");
        assert!(!site.reloader.reload_all());
        site.write(2);
        site.look(2);
        assert_eq!(*live.value(), 2);
        site.remove();
        assert!(!site.reloader.reload_all());
        site.write(1);
        assert!(site.reloader.reload_all(), "asked for, it is read at once");
        assert_eq!(*live.value(), 1);
    }

    #[test]
    fn a_key_whose_mode_is_put_right_is_taken() {
        let site = Site::new();
        let mode = |mode: u32| std::fs::set_permissions(&site.path, Permissions::from_mode(mode)).unwrap();
        let write_key = || {
            std::fs::write(&site.path, testing::server(&["a"]).signing_key.serialize_pem()).unwrap();
        };
        write_key();
        mode(0o600);
        let key = site.path.clone();
        let load: Load<()> = Box::new(move |files| files.key_of(&key, None).map(drop));
        let _live = Live::open("tls-listen://x".into(), &site.reloader, load).unwrap();
        write_key();
        mode(0o644);
        site.look(3);
        assert_eq!(site.count("certificates_kept"), 1);
        mode(0o600);
        site.look(3);
        assert_eq!(site.count("certificates_renewed"), 1);
    }

    #[test]
    fn a_fifo_in_place_of_a_file_holds_nobody_up_and_is_said_once() {
        let site = Site::new();
        let live = site.live();
        site.remove();
        assert!(std::process::Command::new("mkfifo").arg(&site.path).status().unwrap().success());
        // On a thread: to open it would wait for ever.
        let (done, until_done) = std::sync::mpsc::sync_channel(1);
        let looking = site.reloader.clone();
        std::thread::spawn(move || {
            (0..3).for_each(|_| looking.look());
            let _ = done.send(looking.reload_all());
        });
        let renewed = until_done.recv_timeout(Duration::from_secs(20)).expect("nobody waits for a writer");
        assert!(!renewed, "asked for, it is a failure");
        assert_eq!(site.count("certificates_kept"), 2, "once by itself, and once when asked for");
        site.remove();
        site.write(2);
        site.look(2);
        assert_eq!(*live.value(), 2);
    }

    #[test]
    fn expiry_is_told_30_7_and_1_days_ahead_and_once_each() {
        let site = Site::new();
        let made = testing::server(&["a"]);
        std::fs::write(&site.path, made.cert.pem()).unwrap();
        let live = site.live();
        let end = Certificate::read(made.cert.der()).unwrap().not_after;
        let day = Duration::from_secs(24 * 60 * 60);
        let told_at = |ahead: Duration| {
            for _ in 0..3 {
                live.warn_of_expiry(&mut live.lock(), &site.events, end - ahead);
            }
            site.count("certificate_expires")
        };
        assert_eq!(told_at(31 * day), 0);
        assert_eq!(told_at(30 * day), 1);
        assert_eq!(told_at(8 * day), 1);
        assert_eq!(told_at(7 * day), 2);
        assert_eq!(told_at(day), 3);
        live.warn_of_expiry(&mut live.lock(), &site.events, end + day);
        assert_eq!(site.count("certificate_expired"), 1);
    }
}
