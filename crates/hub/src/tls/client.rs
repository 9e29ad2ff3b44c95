//! The side that dials: whom it trusts, and what it shows when it is asked.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::files::{Files, Unusable};
use super::reload::{Live, TlsReloader};
use super::verify::Verifier;
use super::{blame, provider};
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::plan::TlsOptions;

/// What a dialled TLS endpoint expects.
#[derive(Clone)]
pub struct Client {
    live: Arc<Live<ClientConfig>>,
    name: ServerName<'static>,
}

impl Client {
    /// Reads the files that an endpoint names, or those of the system.
    ///
    /// # Errors
    /// A file that cannot be used, and why; a system without authorities.
    pub fn open(endpoint: &Endpoint, tls: &TlsOptions, reloader: &TlsReloader) -> Result<Self, Unusable> {
        let name = name(endpoint, tls)?;
        if tls.insecure {
            reloader.events().emit(Event::Insecure { endpoint: &endpoint.to_string() });
        }
        // The system's list is read once: where root is given up later, it may be out of reach.
        let system = match tls.ca.is_none() && tls.pins.is_empty() && !tls.insecure {
            true => Some(Arc::new(system_roots()?)),
            false => None,
        };
        let tls = tls.clone();
        let load = Box::new(move |files: &mut Files<'_>| config(&tls, system.clone(), files));
        let live = Live::open(endpoint.to_string(), reloader, load)?;
        Ok(Client { live, name })
    }
}

/// Begins TLS on a connection, as the client; the whole handshake gets `time`.
///
/// # Errors
/// Why the server is not to be trusted, or what it does not like, with the remedy.
pub async fn connect(client: &Client, stream: TcpStream, time: Duration) -> io::Result<TlsStream<TcpStream>> {
    let connector = TlsConnector::from(client.live.value());
    match tokio::time::timeout(time, connector.connect(client.name.clone(), stream)).await {
        Ok(Ok(stream)) => Ok(stream.into()),
        Ok(Err(error)) => Err(io::Error::new(error.kind(), blame::of(&error))),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!(
                "no TLS handshake within {} s: does it speak TLS at all? If not, it is tcp://",
                time.as_secs_f32()
            ),
        )),
    }
}

/// The least that a server gets to refuse us; see [`settle`].
const VERDICT: Duration = Duration::from_millis(20);
/// The most.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits a moment before anything is sent that would count as delivered: in TLS 1.3 the client is done before
/// the server has judged its certificate. A refusal takes no longer to come than the handshake took, which
/// was `took`.
///
/// # Errors
/// What the server does not like, with the remedy.
pub async fn settle(stream: &mut TlsStream<TcpStream>, took: Duration) -> io::Result<()> {
    if stream.get_ref().1.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Ok(());
    }
    // What it says besides is for nobody here.
    let mut ignored = [0; 1];
    match tokio::time::timeout(took.clamp(VERDICT, PATIENCE), stream.read(&mut ignored)).await {
        // That it sends nothing more does not mean that it reads nothing.
        Ok(Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
            Err(io::Error::new(error.kind(), blame::of(&error)))
        }
        _ => Ok(()),
    }
}

/// The name that is asked for and checked.
///
/// # Errors
/// No certificate can have it.
pub(super) fn name(endpoint: &Endpoint, tls: &TlsOptions) -> Result<ServerName<'static>, String> {
    let host = tls.sni.as_deref().unwrap_or_else(|| host_of(&endpoint.address));
    ServerName::try_from(host.to_owned())
        .map_err(|_| format!("`{host}` is no name that a certificate can have; give sni=NAME"))
}

/// `HOST` of `HOST:PORT`, without the brackets of IPv6.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn system_roots() -> Result<RootCertStore, String> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        let why = loaded.errors.first().map_or(String::new(), |error| format!(" ({error})"));
        return Err(format!(
            "this system has no certificate authorities{why}: install ca-certificates, or give ca=FILE or pin="
        ));
    }
    Ok(roots)
}

pub(super) fn config(
    tls: &TlsOptions,
    system: Option<Arc<RootCertStore>>,
    files: &mut Files<'_>,
) -> Result<ClientConfig, Unusable> {
    let provider = provider();
    let (roots, known) = match &tls.ca {
        Some(path) => {
            let authorities = files.authorities(path)?;
            (Some(Arc::new(authorities.roots)), authorities.certificates)
        }
        None => (system, Vec::new()),
    };
    let issued = roots.map(|roots| {
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
        verifier.map(|verifier| (verifier, known)).map_err(|error| error.to_string())
    });
    let verifier =
        Verifier { provider: provider.clone(), issued: issued.transpose()?, pins: tls.pins.clone() };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &tls.cert {
        None => builder.with_no_client_auth(),
        Some(cert) => {
            let certificates = files.certificates(cert)?;
            let key_file = tls.key.as_deref().unwrap_or(cert);
            let key = files.key_of(cert, tls.key.as_deref())?;
            builder
                .with_client_auth_cert(certificates, key)
                .map_err(|error| blame::of_pair(&error, cert, key_file))?
        }
    };
    // Each connection proves anew who we are: after a reload, with the new certificate.
    config.resumption = Resumption::disabled();
    Ok(config)
}
