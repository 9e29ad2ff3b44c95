//! The side that is connected to: its certificate, and whose certificates it accepts.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};

use super::files::{Files, Unusable};
use super::reload::{Live, TlsReloader};
use super::trial::lacking;
use super::{blame, provider};
use crate::endpoint::Endpoint;
use crate::plan::TlsOptions;

/// What a TLS listener shows and asks for.
pub struct Server {
    live: Arc<Live<ServerConfig>>,
}

impl Server {
    /// Reads the files that an endpoint names.
    ///
    /// # Errors
    /// No certificate given; a file that cannot be used, and why.
    pub fn open(endpoint: &Endpoint, tls: &TlsOptions, reloader: &TlsReloader) -> Result<Self, Unusable> {
        if let Some(why) = lacking(endpoint, tls) {
            return Err(why.into());
        }
        let tls = tls.clone();
        let load = Box::new(move |files: &mut Files<'_>| config(&tls, files));
        let live = Live::open(endpoint.to_string(), reloader, load)?;
        Ok(Server { live })
    }

    /// What a connection that begins now uses.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.live.value()
    }
}

pub(super) fn config(tls: &TlsOptions, files: &mut Files<'_>) -> Result<ServerConfig, Unusable> {
    let cert = tls.cert.as_deref().ok_or_else(|| "cert= is missing".to_owned())?;
    let certificates = files.certificates(cert)?;
    let key_file = tls.key.as_deref().unwrap_or(cert);
    let key = files.key_of(cert, tls.key.as_deref())?;
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(files.authorities(path)?.roots);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            builder
                .with_client_cert_verifier(verifier.map_err(|error| format!("{}: {error}", path.display()))?)
        }
    };
    let mut config = builder
        .with_single_cert(certificates, key)
        .map_err(|error| blame::of_pair(&error, cert, key_file))?;
    // Our order: the cheapest cipher for this machine first (OpenSSL's clients put AES-256 first).
    config.ignore_client_order = true;
    // A resumed session would let in who was let in before, whatever client-ca= says since a reload.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
