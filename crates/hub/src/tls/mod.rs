//! TLS for every socket endpoint: `tls://` and `tls-listen://`, 1.2 and 1.3.
//!
//! A [`Server`] or [`Client`] is opened once, and holds the configuration of the moment: a connection
//! takes it when it begins, and keeps it. [`TlsReloader`] renews them when their files change.
//! [`Handshakes`] bounds those who have not proved anything yet. Behind the handshake there are the two
//! halves of a stream ([`split`]), or a [`Blocking`] one for a thread.

mod blame;
mod blocking;
mod certificate;
mod client;
mod files;
mod handshake;
mod reload;
mod server;
mod stream;
#[cfg(test)]
mod testing;
mod trial;
mod verify;

pub use blame::looks_like_hello;
pub use blocking::Blocking;
pub use certificate::{Certificate, is_name};
pub use client::{Client, connect, settle};
pub use files::{Unusable, certificates};
pub use handshake::{Accepted, Handshakes};
pub use reload::TlsReloader;
pub use server::Server;
pub use stream::{TlsReader, TlsWriter, split};
pub(crate) use trial::{Trial, lacking};

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The cryptography that all endpoints use: on machines with AES instructions AES-128-GCM comes first,
/// a third less work than AES-256-GCM and as safe; on others ChaCha20.
fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::cipher_suite as suite;
    let mut provider = aws_lc_rs::default_provider();
    let rank = |suite: &rustls::SupportedCipherSuite| {
        let first = [
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ];
        let chacha = [
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ];
        let preferred = if has_aes() { first.contains(suite) } else { chacha.contains(suite) };
        !preferred
    };
    provider.cipher_suites.sort_by_key(rank);
    Arc::new(provider)
}

/// Whether the processor has instructions for AES.
fn has_aes() -> bool {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

/// SHA-256.
fn sha256(octets: &[u8]) -> [u8; 32] {
    let suite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let hash = suite.tls13().map(|suite| suite.common.hash_provider.hash(octets));
    hash.and_then(|hash| hash.as_ref().try_into().ok()).unwrap_or_default()
}
