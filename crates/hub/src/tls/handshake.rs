//! Connections in the middle of their handshake: bounded in number and time, and never waited for.
//!
//! Where there are too many, the oldest of the address that has the most goes, and of them first one that
//! has not even said its hello: a crowd displaces itself, not one that really begins a handshake.

use std::collections::{HashMap, VecDeque};
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, Id, JoinSet};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::blame;
use super::certificate::Certificate;
use crate::event::{Event, Events};
use crate::limits::Limits;

/// Those who connected and are not through.
pub struct Handshakes {
    most: usize,
    time: Duration,
    events: Events,
    tasks: JoinSet<Result<Accepted, Failure>>,
    /// In the order in which they came.
    open: VecDeque<HalfOpen>,
    of_address: HashMap<IpAddr, usize>,
}

struct HalfOpen {
    id: Id,
    address: IpAddr,
    peer: SocketAddr,
    task: AbortHandle,
    /// Whether its hello has come as a whole.
    greeted: Arc<AtomicBool>,
}

/// Somebody who is through.
pub struct Accepted {
    /// The connection.
    pub stream: TlsStream<TcpStream>,
    /// Where from.
    pub peer: SocketAddr,
    /// Who, by a certificate that was checked; escaped. `None` where none is asked for.
    pub name: Option<String>,
}

impl Accepted {
    /// For logs and counts: `192.0.2.7:4711 (alice)`.
    pub fn shown(&self) -> String {
        self.with_name(self.peer.to_string())
    }

    /// The same for what is said instead of the peer.
    pub fn with_name(&self, peer: String) -> String {
        match &self.name {
            Some(name) => format!("{peer} ({name})"),
            None => peer,
        }
    }
}

/// Why somebody is not.
struct Failure {
    peer: SocketAddr,
    why: String,
}

impl Handshakes {
    /// None yet.
    pub fn new(limits: &Limits, events: Events) -> Self {
        Handshakes {
            most: limits.handshakes(),
            time: limits.handshake_timeout,
            events,
            tasks: JoinSet::new(),
            open: VecDeque::new(),
            of_address: HashMap::new(),
        }
    }

    /// Begins one, on a task of its own.
    pub fn begin(&mut self, stream: TcpStream, peer: SocketAddr, config: Arc<ServerConfig>) {
        if self.open.len() >= self.most {
            self.displace();
        }
        let time = self.time;
        let greeted = Arc::new(AtomicBool::new(false));
        let said = greeted.clone();
        let task = self.tasks.spawn(async move {
            let accepted = accept(stream, config, time, &said).await;
            accepted
                .map(|stream| Accepted { name: name_of(&stream), stream, peer })
                .map_err(|why| Failure { peer, why })
        });
        let address = group(peer.ip());
        *self.of_address.entry(address).or_default() += 1;
        self.open.push_back(HalfOpen { id: task.id(), address, peer, task, greeted });
    }

    /// The next one that is through; `None` while there is nobody to wait for. Nothing is lost where it
    /// is not waited for to the end.
    pub async fn next(&mut self) -> Option<Accepted> {
        loop {
            let (id, done) = match self.tasks.join_next_with_id().await? {
                Ok((id, done)) => (id, Some(done)),
                Err(error) => (error.id(), None),
            };
            self.forget(id);
            match done {
                Some(Ok(accepted)) => return Some(accepted),
                Some(Err(Failure { peer, why })) => self.failed(peer, &why),
                None => {}
            }
        }
    }

    fn failed(&self, peer: SocketAddr, why: &str) {
        self.events.emit(Event::HandshakeFailed { peer: &peer.to_string(), why });
    }

    fn displace(&mut self) {
        let Some(address) = self.of_address.iter().max_by_key(|(_, n)| **n).map(|(address, _)| *address)
        else {
            return;
        };
        let silent = |open: &HalfOpen| open.address == address && !open.greeted.load(Ordering::Relaxed);
        let oldest = || self.open.iter().position(|open| open.address == address);
        let Some(at) = self.open.iter().position(silent).or_else(oldest) else { return };
        if let Some(oldest) = self.open.remove(at) {
            oldest.task.abort();
            self.leave(oldest.address);
            self.failed(
                oldest.peer,
                "too many are in the middle of a TLS handshake, and its address has the most of them",
            );
        }
    }

    fn forget(&mut self, id: Id) {
        if let Some(at) = self.open.iter().position(|open| open.id == id)
            && let Some(open) = self.open.remove(at)
        {
            self.leave(open.address);
        }
    }

    fn leave(&mut self, address: IpAddr) {
        if let Some(count) = self.of_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.of_address.remove(&address);
            }
        }
    }
}

/// Whom an address stands for: in IPv6, one customer has a network of 64 bits.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

async fn accept(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    time: Duration,
    greeted: &AtomicBool,
) -> Result<TlsStream<TcpStream>, String> {
    let deadline = tokio::time::Instant::now() + time;
    let mut first = [0; 64];
    let spoke = tokio::time::timeout_at(deadline, stream.peek(&mut first)).await;
    let spoke = spoke.map_err(|_| {
        format!(
            "it said nothing within {} s: who connects here must speak TLS, e.g. pcaphub cat tls://HOST or \
             socat - openssl-connect:HOST:PORT",
            time.as_secs_f32()
        )
    })?;
    let spoke = match spoke {
        Ok(0) => return Err("it closed without a word".into()),
        Ok(n) => first.get(..n).unwrap_or_default(),
        Err(error) => return Err(error.to_string()),
    };
    // The type of a handshake record; everything else cannot become one.
    if spoke.first() != Some(&0x16) {
        let why = blame::not_a_hello(spoke);
        if blame::is_http(spoke) {
            answer_http(stream);
        }
        return Err(why);
    }
    let handshake = async {
        let begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        greeted.store(true, Ordering::Relaxed);
        begun.into_stream(config).await
    };
    match tokio::time::timeout_at(deadline, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(blame::of(&error)),
        Err(_) => Err(format!(
            "its TLS handshake was not done within {} s (--handshake-timeout)",
            time.as_secs_f32()
        )),
    }
}

/// A browser's user sees why.
fn answer_http(stream: TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n\
        This port carries network captures inside TLS, not HTTP.\n";
    // Unread octets would turn the close into a reset, which could overtake the answer.
    let mut request = [0; 4096];
    let _ = stream.try_read(&mut request);
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(ANSWER);
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
}

fn name_of(stream: &TlsStream<TcpStream>) -> Option<String> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    Some(Certificate::read(certificate)?.name.unwrap_or_else(|| "no name".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_ipv6_network_all_count_as_one_and_mapped_addresses_as_ipv4() {
        let group = |text: &str| group(text.parse().unwrap()).to_string();
        assert_eq!(group("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(group("::ffff:192.0.2.1"), "192.0.2.1");
    }

    #[tokio::test]
    async fn where_there_are_too_many_the_crowd_displaces_itself() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let limits = Limits { max_memory: 16 << 20, ..Limits::default() };
        let mut handshakes = Handshakes::new(&limits, Events::default());
        let config = crate::tls::testing::config();
        let mut kept = Vec::new();
        let peer = |last: u8, port| SocketAddr::from(([192, 0, 2, last], port));
        for n in 0..100u16 {
            kept.push(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
            let (stream, _) = listener.accept().await.unwrap();
            let crowd = if n == 3 { peer(1, n) } else { peer(2, n) };
            handshakes.begin(stream, crowd, config.clone());
        }
        assert_eq!(handshakes.open.len(), limits.handshakes());
        assert!(
            handshakes.open.iter().any(|open| open.peer == peer(1, 3)),
            "the one who is not of the crowd"
        );
        assert_eq!(handshakes.open.back().map(|open| open.peer), Some(peer(2, 99)), "the last to come");
    }
}
