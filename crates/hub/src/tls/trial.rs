//! What an endpoint's TLS options are worth before anything is opened: what they lack, and what is wrong with
//! the files that are there.

use std::io;
use std::path::{Path, PathBuf};

use super::files::{Files, Unusable};
use super::{client, server};
use crate::endpoint::{Endpoint, Scheme};
use crate::opener::{Kind, Opener};
use crate::plan::TlsOptions;

/// What an endpoint cannot be opened without, whatever its files are.
pub(crate) fn lacking(endpoint: &Endpoint, tls: &TlsOptions) -> Option<String> {
    match endpoint.scheme {
        Scheme::TlsListen if tls.cert.is_none() => Some(
            "cert= is missing, the certificate to show to those who connect: `pcaphub cert new` makes one, and \
             prints what to write here"
                .into(),
        ),
        Scheme::Tls => client::name(endpoint, tls).err(),
        _ => None,
    }
}

/// What the files of an endpoint are at this moment.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    /// Files that we cannot read, and why; they may be there when it matters, or for another user.
    pub(crate) absent: Vec<(PathBuf, io::Error)>,
    /// What is wrong with the others, and with all of them together.
    pub(crate) wrong: Vec<String>,
}

impl Trial {
    /// Tries the files of an endpoint. One that is no regular file is left alone: to read it may wait for
    /// ever, or take what it is to give later.
    pub(crate) fn of(scheme: Scheme, tls: &TlsOptions, opener: &dyn Opener) -> Self {
        let (mut trial, mut files, mut whole) = (Trial::default(), Files::new(opener), true);
        let (cert, key) = (tls.cert.as_deref(), tls.key.as_deref());
        let authorities = [&tls.ca, &tls.client_ca].into_iter().filter_map(|path| path.as_deref());
        let certificates = |files: &mut Files<'_>, path: &Path| files.certificates(path).map(drop);
        let roots = |files: &mut Files<'_>, path: &Path| files.authorities(path).map(drop);
        let secret = |files: &mut Files<'_>, _: &Path| match cert {
            Some(cert) => files.key_of(cert, key).map(drop),
            None => Ok(()),
        };
        let mut read = |path: &Path, read: &dyn Fn(&mut Files<'_>, &Path) -> Result<(), Unusable>| match trial
            .is_readable(path, opener)
        {
            true => {
                let refused = read(&mut files, path).err();
                whole &= refused.is_none();
                trial.wrong.extend(refused.map(|unusable| unusable.why));
            }
            false => whole = false,
        };
        cert.into_iter().for_each(|path| read(path, &certificates));
        key.or(cert).into_iter().for_each(|path| read(path, &secret));
        authorities.for_each(|path| read(path, &roots));
        if whole {
            let together = match scheme {
                Scheme::TlsListen => server::config(tls, &mut files).map(drop),
                _ => client::config(tls, None, &mut files).map(drop),
            };
            trial.wrong.extend(together.err().map(|unusable| unusable.why));
        }
        trial
    }

    /// Whether a file can be tried; it is told where it is not there.
    fn is_readable(&mut self, path: &Path, opener: &dyn Opener) -> bool {
        let found = opener.look(path).and_then(|found| match found.kind {
            Kind::File => opener.read_file(path).map(|_| found.kind),
            kind => Ok(kind),
        });
        match found {
            Ok(kind) => kind != Kind::Other,
            Err(error) => {
                if self.absent.iter().all(|(known, _)| known != path) {
                    self.absent.push((path.to_owned(), error));
                }
                false
            }
        }
    }
}
