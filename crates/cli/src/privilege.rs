//! What a process that was started as root does first: it forks the helper, which keeps those rights, and
//! gives them up itself. Without root nothing of this happens.

use std::path::Path;
use std::sync::Arc;

use pcaphub::opener::{Opener, System};
use pcaphub::plan::Plan;

#[cfg(target_os = "linux")]
use self::linux::Forked;

/// What was arranged.
pub(crate) struct Rights {
    /// Through which everything is opened.
    pub(crate) opener: Arc<dyn Opener>,
    /// What is worth a line once there is a log.
    said: Vec<(tracing::Level, String)>,
    #[cfg(target_os = "linux")]
    helper: Option<Forked>,
}

/// Gives up root, if that is what we are. To be called while there is one thread. What `plan` names may
/// still be opened, and `config`, the file that it comes from, may be read; the helper calls `plan` again
/// on [`Opener::renew`]. It takes away the socket `left` in the end, which we cannot any more.
///
/// # Errors
/// There is no such user; or the system refuses, and we must not go on.
pub(crate) fn arrange(
    user: Option<&str>,
    config: Option<&Path>,
    plan: &dyn Fn() -> Result<Plan, String>,
    left: Option<&Path>,
) -> anyhow::Result<Rights> {
    #[cfg(target_os = "linux")]
    {
        linux::arrange(user, config, plan, left)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (user, config, plan, left);
        Ok(Rights::ours(Vec::new()))
    }
}

impl Rights {
    /// Everything is opened with this process's own rights.
    fn ours(said: Vec<(tracing::Level, String)>) -> Self {
        Rights {
            opener: Arc::new(System),
            said,
            #[cfg(target_os = "linux")]
            helper: None,
        }
    }

    /// Says what was arranged, and from now on, when the helper is gone.
    pub(crate) fn watch(&mut self) -> std::io::Result<()> {
        for (level, line) in self.said.drain(..) {
            match level {
                tracing::Level::WARN => tracing::warn!("{line}"),
                tracing::Level::INFO => tracing::info!("{line}"),
                _ => tracing::debug!("{line}"),
            }
        }
        #[cfg(target_os = "linux")]
        if let Some(helper) = &self.helper {
            helper.watch()?;
        }
        Ok(())
    }

    /// Lets the helper go, and waits a moment until it and the commands that it started have ended.
    pub(crate) fn end(self) {
        #[cfg(target_os = "linux")]
        if let Some(helper) = self.helper {
            helper.end();
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::os::fd::{AsFd, OwnedFd};
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use pcaphub::escape::escaped;
    use pcaphub::helper::{Helper, Permits, Remote, joined};
    use pcaphub::opener::{Opener, System};
    use pcaphub::plan::Plan;
    use pcaphub::privilege::{Identity, give_up};
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{
        DumpableBehavior, Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, set_dumpable_behavior, waitid,
    };
    use tracing::Level;

    use super::Rights;
    use crate::logging;

    /// The helper, as the main process knows it.
    pub(super) struct Forked {
        remote: Arc<Remote>,
        pid: Pid,
        pidfd: OwnedFd,
        /// Whether it is to end.
        dismissed: Arc<AtomicBool>,
    }

    /// What the helper gets to end when we do.
    const GRACE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

    pub(super) fn arrange(
        user: Option<&str>,
        config: Option<&Path>,
        plan: &dyn Fn() -> Result<Plan, String>,
        left: Option<&Path>,
    ) -> anyhow::Result<Rights> {
        if !rustix::process::geteuid().is_root() {
            let without = "--user is without effect: only root can become somebody else";
            return Ok(Rights::ours(user.map(|_| (Level::WARN, without.to_owned())).into_iter().collect()));
        }
        let identity = Identity::find(user)?;
        if identity.is_root() {
            let kept = "everything runs with root's rights, because --user says so";
            return Ok(Rights::ours(vec![(Level::WARN, kept.to_owned())]));
        }
        let named = || {
            let permits = Permits::of(&plan()?);
            Ok(config.map_or(permits.clone(), |config| permits.reading(config)))
        };
        let permits = named().map_err(anyhow::Error::msg)?;
        let (remote, socket) = joined()?;
        let child = match pcaphub_sys::fork()? {
            pcaphub_sys::Forked::Parent { child } => child,
            pcaphub_sys::Forked::Child => {
                // So that it sees that we are gone.
                drop(remote);
                serve(Helper { socket, permits, renew: &named, tell: &tell });
                // Fails where it is gone already.
                let _ = left.map(|left| System.remove_unix(left));
                std::process::exit(0);
            }
        };
        drop(socket);
        let pid = i32::try_from(child).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("a process without a number"))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from)?;
        let missing = give_up(&identity)?;
        let mut said: Vec<_> = missing.into_iter().map(|what| (Level::DEBUG, what)).collect();
        said.push((
            Level::DEBUG,
            format!("running as {}; process {child} opens with root's rights", identity.name),
        ));
        let remote = Arc::new(remote);
        Ok(Rights {
            opener: remote.clone(),
            said,
            helper: Some(Forked { remote, pid, pidfd, dismissed: Arc::default() }),
        })
    }

    /// What the helper is from its first moment to its last.
    fn serve(helper: Helper<'_>) {
        // Ctrl-C and what a service manager sends to all reach it too: the main process decides.
        pcaphub_sys::block_signals();
        let _ = rustix::thread::set_name(c"pcaphub-helper");
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        helper.serve();
    }

    /// Says something, unless nobody reads: that must hold up nothing.
    fn tell(what: &str) {
        let stderr = io::stderr();
        let mut polled = [PollFd::new(&stderr, PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut polled, Some(&now)) == Ok(1) {
            logging::log(Level::WARN, &escaped(&format!("helper: {what}"), 1000).to_string());
        }
    }

    impl Forked {
        pub(super) fn watch(&self) -> io::Result<()> {
            let (pidfd, pid) = (self.pidfd.try_clone()?, self.pid.as_raw_nonzero());
            let dismissed = self.dismissed.clone();
            let watch = move || {
                let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
                let ended = rustix::io::retry_on_intr(|| poll(&mut polled, None)).is_ok();
                if ended && !dismissed.load(Ordering::Acquire) {
                    let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
                    tracing::error!(
                        "the helper process {pid} has ended: what is open stays so, the commands that it \
                         started have ended, and nothing can be opened again that needs root's rights; \
                         restart pcaphub"
                    );
                }
            };
            std::thread::Builder::new().name("helper".into()).spawn(watch).map(drop)
        }

        pub(super) fn end(self) {
            self.dismissed.store(true, Ordering::Release);
            self.remote.dismiss();
            let mut polled = [PollFd::new(&self.pidfd, PollFlags::IN)];
            if poll(&mut polled, Some(&GRACE)) == Ok(1) {
                let _ =
                    waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            }
        }
    }
}
