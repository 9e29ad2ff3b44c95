//! Certificates and keys from PEM files, opened through [`Opener`], and how those files were then.

use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use super::certificate::Certificate;
use crate::opener::{Kind, Opener};

/// The largest file that is read: several times the system's list of authorities.
const MOST: u64 = 4 << 20;

/// What was there under a name, and in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stamp {
    /// A regular file; the time is that of its last change, which a new owner is, too.
    File { device: u64, inode: u64, mode: u32, size: u64, seconds: i64, nanoseconds: i64 },
    /// A pipe, a directory or the like; what a pipe held is gone once it was read.
    Pipe,
    /// Nothing that can be opened.
    Missing,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        if !metadata.is_file() {
            return Stamp::Pipe;
        }
        Stamp::File {
            device: metadata.dev(),
            inode: metadata.ino(),
            mode: metadata.mode(),
            size: metadata.size(),
            seconds: metadata.ctime(),
            nanoseconds: metadata.ctime_nsec(),
        }
    }
}

/// Files that are read, and what is worth remembering of them.
pub(super) struct Files<'a> {
    opener: &'a dyn Opener,
    /// Whether they were read before: a pipe in their place would be waited for, perhaps for ever.
    again: bool,
    /// Every file, in the order in which they were read.
    pub(super) stamps: Vec<(PathBuf, Stamp)>,
    /// Of each file, the certificate that expires first, where there are few: of the system's list,
    /// nobody needs to hear.
    pub(super) expiring: Vec<(PathBuf, Certificate)>,
}

/// A file with more certificates than this is a list of others' authorities.
const OWN: usize = 4;

/// Why certificates or a key cannot be used. The operator's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{why}")]
pub struct Unusable {
    /// What is wrong, and what to do.
    pub why: String,
    /// Whether it is that we may not read a file.
    pub permission: bool,
}

impl From<String> for Unusable {
    fn from(why: String) -> Self {
        Unusable { why, permission: false }
    }
}

/// The certificates in a PEM file.
///
/// # Errors
/// A file that cannot be read or has none.
pub fn certificates(opener: &dyn Opener, path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    Files::new(opener).certificates(path)
}

impl<'a> Files<'a> {
    pub(super) fn new(opener: &'a dyn Opener) -> Self {
        Files { opener, again: false, stamps: Vec::new(), expiring: Vec::new() }
    }

    /// To read files once more, which are to be regular ones now.
    pub(super) fn again(opener: &'a dyn Opener) -> Self {
        Files { again: true, ..Files::new(opener) }
    }

    /// The certificates in a file; at least one.
    pub(super) fn certificates(&mut self, path: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
        let (octets, _) = self.read(path)?;
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&octets).collect();
        let certificates =
            certificates.map_err(|error| format!("{}: not well-formed PEM: {error}", path.display()))?;
        if certificates.is_empty() {
            return Err(format!(
                "{}: there is no certificate in it; it is to be PEM (-----BEGIN CERTIFICATE-----)",
                path.display()
            )
            .into());
        }
        let read: Option<Vec<_>> = certificates.iter().map(|der| Certificate::read(der)).collect();
        let read = read.ok_or_else(|| format!("{}: a certificate in it cannot be read", path.display()))?;
        if read.len() <= OWN {
            let first = read.into_iter().min_by_key(|certificate| certificate.not_after);
            self.expiring.extend(first.map(|certificate| (path.to_owned(), certificate)));
        }
        Ok(certificates)
    }

    /// Certificates in a file as those to trust.
    pub(super) fn authorities(&mut self, path: &Path) -> Result<Authorities, Unusable> {
        let certificates = self.certificates(path)?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            let added = roots.add(certificate.clone());
            added.map_err(|error| {
                format!("{}: a certificate in it cannot be used: {error}", path.display())
            })?;
        }
        Ok(Authorities { roots, certificates })
    }

    /// The key of a certificate, which is in a file of its own, or in that of the certificate.
    pub(super) fn key_of(
        &mut self,
        certificate: &Path,
        key: Option<&Path>,
    ) -> Result<PrivateKeyDer<'static>, Unusable> {
        let path = key.unwrap_or(certificate);
        self.private_key(path).map_err(|unusable| match unusable {
            NoKey::Missing if key.is_none() => format!(
                "key= is missing: there is no key in {}, so give the file of the key that belongs to it",
                path.display()
            )
            .into(),
            NoKey::Missing => format!(
                "{}: there is no key in it; it is to be PEM (-----BEGIN PRIVATE KEY-----)",
                path.display()
            )
            .into(),
            NoKey::Refused(unusable) => unusable,
        })
    }

    /// The key in a file that nobody else can read.
    fn private_key(&mut self, path: &Path) -> Result<PrivateKeyDer<'static>, NoKey> {
        // Before it is in memory.
        #[cfg(target_os = "linux")]
        crate::privilege::keep_secrets().map_err(|error| {
            NoKey::Refused(format!("cannot turn core dumps off, which would have the key: {error}").into())
        })?;
        let (octets, metadata) = self.read(path).map_err(NoKey::Refused)?;
        let key = PrivateKeyDer::from_pem_slice(&octets);
        let is_encrypted = key.is_err() && octets.windows(9).any(|word| word == b"ENCRYPTED");
        if is_encrypted {
            let why = format!(
                "{0}: the key in it has a passphrase, and nobody is there to type it: \
                 openssl pkey -in {0} -out plain.pem",
                path.display()
            );
            return Err(NoKey::Refused(why.into()));
        }
        let key = key.map_err(|_| NoKey::Missing)?;
        if is_exposed(&metadata) {
            let mode = metadata.mode() & 0o7777;
            let why =
                format!("{0}: others may read this key (mode {mode:04o}): chmod 600 {0}", path.display());
            return Err(NoKey::Refused(why.into()));
        }
        Ok(key)
    }

    fn read(&mut self, path: &Path) -> Result<(Vec<u8>, Metadata), Unusable> {
        let read = || {
            if self.again && self.opener.look(path)?.kind != Kind::File {
                return Err(std::io::Error::other(
                    "it is no regular file, and while pcaphub runs only such ones are read again",
                ));
            }
            let file = self.opener.read_file(path)?;
            let metadata = file.metadata()?;
            let mut octets = Vec::new();
            file.take(MOST + 1).read_to_end(&mut octets)?;
            Ok::<_, std::io::Error>((octets, metadata))
        };
        let (octets, metadata) = read().map_err(|error| Unusable {
            why: format!("cannot read {}: {error}{}", path.display(), remedy(&error)),
            permission: error.kind() == std::io::ErrorKind::PermissionDenied,
        })?;
        if octets.len() as u64 > MOST {
            return Err(format!("{}: too large for certificates and keys", path.display()).into());
        }
        self.stamps.push((path.to_owned(), Stamp::of(&metadata)));
        Ok((octets, metadata))
    }
}

/// Why there is no key to use.
enum NoKey {
    /// The file has none.
    Missing,
    /// What is wrong with it.
    Refused(Unusable),
}

/// What to do where a file cannot be read.
fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "; let the user that pcaphub runs as read it and enter its folder (chown), or have systemd hand it over \
             (LoadCredential=, docs/service.md)"
        }
        _ => "",
    }
}

/// Whom to trust.
pub(super) struct Authorities {
    pub(super) roots: RootCertStore,
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

/// How files are now.
pub(super) fn stamps(opener: &dyn Opener, paths: impl Iterator<Item = PathBuf>) -> Vec<(PathBuf, Stamp)> {
    let stamp = |path: &Path| {
        // To open a FIFO waits for its writer.
        if opener.look(path)?.kind != Kind::File {
            return Ok(Stamp::Pipe);
        }
        Ok::<_, std::io::Error>(Stamp::of(&opener.read_file(path)?.metadata()?))
    };
    let stamp = |path: &Path| stamp(path).unwrap_or(Stamp::Missing);
    paths.map(|path| (path.clone(), stamp(&path))).collect()
}

/// Whether others than its owner can read a key. Root's group is root, and systemd shows a credential's
/// access list as the group's right (LoadCredential=).
fn is_exposed(metadata: &Metadata) -> bool {
    let roots_own = metadata.uid() == 0 && metadata.gid() == 0;
    let harmless = if roots_own { 0o740 } else { 0o700 };
    metadata.is_file() && metadata.mode() & 0o777 & !harmless != 0
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::opener::System;
    use crate::tls::testing;

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        std::fs::write(&path, testing::server(&["a"]).signing_key.serialize_pem()).unwrap();
        let key = |mode: u32| {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            Files::new(&System).key_of(&path, None).map(|_| ())
        };
        assert_eq!(key(0o600), Ok(()));
        assert_eq!(key(0o400), Ok(()));
        for mode in [0o644, 0o660, 0o604] {
            let error = key(mode).unwrap_err();
            assert!(error.why.contains(&format!("mode 0{mode:o}")), "{error}");
            assert!(error.why.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn what_is_not_there_or_not_pem_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pem");
        let missing = Files::new(&System).certificates(&path).unwrap_err();
        assert!(missing.why.contains("cannot read") && missing.why.contains("x.pem"), "{missing}");
        std::fs::write(&path, "hello").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(Files::new(&System).certificates(&path).unwrap_err().why.contains("BEGIN CERTIFICATE"));
        let key = |key| Files::new(&System).key_of(&path, key).unwrap_err();
        assert!(key(Some(&path)).why.contains("BEGIN PRIVATE KEY"));
        // The file of a certificate may be read by all, and has no key.
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(key(None).why.contains("key= is missing"), "{}", key(None));
        std::fs::write(
            &path,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        )
        .unwrap();
        assert!(key(Some(&path)).why.contains("openssl pkey"));
    }
}
