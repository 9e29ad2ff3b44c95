//! TLS with the real tools on the other side: socat, ncat, openssl, stunnel; each as client, producer,
//! server and receiver. And what must not work, what must go on, and who must not be held up.

#![allow(unreachable_pub, reason = "the harness is used by every module here")]
#![allow(dead_code, reason = "the harness has more than these tests need")]
#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

#[path = "../use_cases/harness.rs"]
mod harness;

mod cert;
mod checking;
mod clients;
mod crowd;
mod hints;
mod old;
mod producers;
mod receivers;
mod renewal;
mod servers;
mod site;
mod trust;
