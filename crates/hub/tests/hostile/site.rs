//! A hub in this process, with a healthy producer and a client that counts what it gets of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use pcaphub::endpoint::Endpoint;
use pcaphub::event::Events;
use pcaphub::hub::{self, HubError, Outcome};
use pcaphub::opener::{Found, Opener, Pipe, Spawned, System};
use pcaphub::plan::{Plan, Reconnect};
use pcaphub::shutdown::{Phase, Trigger, shutdown};
use pcaphub::stats::{Books, Report};
use pcaphub::{sink, source};
use pcaphub_core::batch::Batch;
use pcaphub_core::format::{Decoder, DecoderOptions, Format};
use pcaphub_core::interface::InterfaceTable;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::time::Timestamp;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// After this, what should have happened has not.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// Looks again and again until it is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        std::thread::park_timeout(Duration::from_micros(100));
    }
}

/// Opens what [`System`] opens, and remembers where it listens.
#[derive(Default)]
pub(crate) struct Remembering {
    listens: Mutex<Vec<SocketAddr>>,
}

impl Remembering {
    /// Where it listens: for its sources, then for its sinks, in their order.
    pub(crate) fn listens(&self) -> Vec<SocketAddr> {
        self.listens.lock().unwrap().clone()
    }
}

impl Opener for Remembering {
    fn read_file(&self, path: &Path) -> std::io::Result<std::fs::File> {
        System.read_file(path)
    }

    fn write_file(&self, path: &Path) -> std::io::Result<std::fs::File> {
        System.write_file(path)
    }

    fn may_write(&self, path: &Path) -> std::io::Result<()> {
        System.may_write(path)
    }

    fn directory(&self, path: &Path) -> std::io::Result<Box<dyn pcaphub::directory::Directory>> {
        System.directory(path)
    }

    fn tcp_socket(
        &self,
        remote: SocketAddr,
        bind: Option<std::net::IpAddr>,
    ) -> std::io::Result<socket2::Socket> {
        System.tcp_socket(remote, bind)
    }

    fn listen_tcp(&self, address: SocketAddr) -> std::io::Result<TcpListener> {
        let listener = System.listen_tcp(address)?;
        self.listens.lock().unwrap().push(listener.local_addr()?);
        Ok(listener)
    }

    fn connect_unix(&self, path: &Path) -> std::io::Result<std::os::unix::net::UnixStream> {
        System.connect_unix(path)
    }

    fn listen_unix(&self, path: &Path) -> std::io::Result<std::os::unix::net::UnixListener> {
        System.listen_unix(path)
    }

    fn injector(&self, interface: &str) -> std::io::Result<Box<dyn pcaphub::opener::Wire>> {
        System.injector(interface)
    }

    fn tap(&self, interface: &str) -> std::io::Result<Box<dyn pcaphub::opener::Wire>> {
        System.tap(interface)
    }

    fn look(&self, path: &Path) -> std::io::Result<Found> {
        System.look(path)
    }

    fn remove_unix(&self, path: &Path) -> std::io::Result<()> {
        System.remove_unix(path)
    }

    fn packet_socket(
        &self,
        layer: pcaphub_sys::Layer,
        interface: &str,
    ) -> std::io::Result<pcaphub_sys::PacketSocket> {
        System.packet_socket(layer, interface)
    }

    fn spawn(&self, argv: &[String], pipe: Pipe) -> std::io::Result<Spawned> {
        System.spawn(argv, pipe)
    }
}

/// A hub that runs.
pub(crate) struct Running {
    pub(crate) books: Books,
    pub(crate) events: Events,
    /// Where it listens: for its sources, then for its sinks, in their order.
    pub(crate) listens: Vec<SocketAddr>,
    trigger: Trigger,
    task: JoinHandle<Outcome>,
}

/// A plan with these sources, and little else.
pub(crate) fn plan(sources: Vec<Endpoint>, sink: &str) -> Plan {
    Plan {
        sources: sources.into_iter().map(|endpoint| source::spec(endpoint).unwrap()).collect(),
        sinks: vec![sink::spec(Endpoint::parse(sink).unwrap()).unwrap()],
        // Long enough to matter to the merge, short enough to be waited for thousands of times.
        hold: Duration::from_millis(1),
        reconnect: Reconnect::Error,
        ..Plan::default()
    }
}

/// Runs a hub of these sources and this sink.
pub(crate) fn run(sources: Vec<Endpoint>, sink: &str) -> Result<Running, HubError> {
    let _inside = RUNTIME.enter();
    let (trigger, shutdown) = shutdown();
    let (opener, events) = (Arc::new(Remembering::default()), Events::default());
    let hub = hub::open(plan(sources, sink), opener.clone(), events.clone(), shutdown)?;
    let listens = opener.listens();
    Ok(Running { books: hub.books(), events, listens, trigger, task: RUNTIME.spawn(hub.run()) })
}

impl Running {
    /// How often something happened.
    pub(crate) fn count(&self, event: &str) -> u64 {
        self.events.counts().iter().find(|(name, _)| *name == event).map_or(0, |(_, n)| *n)
    }

    /// Waits for the end of its sources, and of itself.
    pub(crate) fn ended(self) -> Outcome {
        let ended = async { tokio::time::timeout(DEADLINE, self.task).await };
        RUNTIME.block_on(ended).expect("the hub ends").expect("the hub does not panic")
    }

    /// Tells it to stop.
    pub(crate) fn stopped(self) -> Outcome {
        self.trigger.advance(Phase::Draining);
        self.ended()
    }
}

/// A running hub with a healthy producer and a client.
pub(crate) struct Site {
    pub(crate) hub: Running,
    producer: TcpStream,
    sent: u64,
    received: Arc<AtomicU64>,
}

/// The number of the healthy source; others come after it.
const HEALTHY: usize = 0;
pub(crate) const HOSTILE: usize = 1;

impl Site {
    /// A hub with these sources besides the healthy one, which has delivered something.
    pub(crate) fn open(hostile: impl IntoIterator<Item = Endpoint>) -> Self {
        let healthy = Endpoint::parse("tcp-listen://127.0.0.1:0?name=healthy").unwrap();
        let sources = [healthy].into_iter().chain(hostile).collect();
        let hub = run(sources, "tcp-listen://127.0.0.1:0?format=pcapng").unwrap();
        let client = TcpStream::connect(hub.listens.last().unwrap()).unwrap();
        let mut producer = TcpStream::connect(hub.listens[HEALTHY]).unwrap();
        producer.set_nodelay(true).unwrap();
        producer.write_all(&Format::Pcap.header(LinkType::ETHERNET)).unwrap();
        let received = Arc::new(AtomicU64::new(0));
        let counter = received.clone();
        std::thread::spawn(move || consume(client, &counter));
        wait_until("the client is there", || hub.count("client_came") == 1);
        let mut site = Site { hub, producer, sent: 0, received };
        site.goes_on();
        site
    }

    /// A packet of the healthy producer reaches the client. All that the hub was sent before has
    /// then been counted, since its queue is one.
    #[track_caller]
    pub(crate) fn goes_on(&mut self) {
        self.producer.write_all(&healthy_record(self.sent as u32)).unwrap();
        self.sent += 1;
        wait_until("the healthy source is served", || self.received.load(Ordering::Relaxed) >= self.sent);
        assert_eq!(self.received.load(Ordering::Relaxed), self.sent);
    }

    /// A producer for this source, which sends every octet at once.
    pub(crate) fn connect(&self, source: usize) -> TcpStream {
        let connection = TcpStream::connect(self.hub.listens[source]).unwrap();
        connection.set_nodelay(true).unwrap();
        connection.set_write_timeout(Some(DEADLINE)).unwrap();
        connection
    }

    /// The counts, which close.
    #[track_caller]
    pub(crate) fn report(&self) -> Report {
        let report = self.hub.books.report();
        assert!(report.closes(), "{report:?}");
        report
    }

    /// Stops it; nothing healthy was lost.
    #[track_caller]
    pub(crate) fn close(mut self) -> Outcome {
        self.goes_on();
        let outcome = self.hub.stopped();
        assert!(outcome.report.closes(), "{:?}", outcome.report);
        assert_eq!(outcome.report.sources[HEALTHY].forwarded, self.sent);
        outcome
    }
}

/// A packet of 2023, a microsecond after the one before it.
pub(crate) fn healthy_record(number: u32) -> Vec<u8> {
    let words = [1_700_000_000 + number / 1_000_000, number % 1_000_000, 60, 60];
    let header = words.iter().flat_map(|word| word.to_le_bytes());
    header.chain([0x5a; 60]).collect()
}

/// Reads what the hub sends, which is good pcapng whatever its sources were, and counts what is of
/// the healthy one.
fn consume(mut client: TcpStream, healthy: &AtomicU64) {
    let mut reading = Consumer::default();
    let mut buffer = vec![0; 256 << 10];
    while let Ok(n @ 1..) = client.read(&mut buffer) {
        let counted = reading.take(&buffer[..n]);
        healthy.fetch_add(counted.0, Ordering::Relaxed);
    }
}

/// Decodes what a hub wrote.
pub(crate) struct Consumer {
    decoder: Decoder,
    table: InterfaceTable,
    rest: Vec<u8>,
}

impl Default for Consumer {
    fn default() -> Self {
        let options = DecoderOptions { source: "hub".into(), name: None, linktype: None };
        Consumer { decoder: Decoder::new(options), table: InterfaceTable::new(), rest: Vec::new() }
    }
}

impl Consumer {
    /// Takes octets; how many packets of the healthy source and of others there were.
    pub(crate) fn take(&mut self, octets: &[u8]) -> (u64, u64) {
        self.rest.extend_from_slice(octets);
        let mut batch = Batch::default();
        let decoded = self.decoder.decode(&self.rest, &mut batch, &mut self.table, Timestamp::from_nanos(0));
        decoded.result.expect("a hub writes good pcapng");
        self.rest.drain(..decoded.consumed);
        let names = batch.packets.iter().filter_map(|packet| self.table.get(packet.interface));
        let healthy = names.filter(|interface| interface.shown_name() == "healthy").count() as u64;
        (healthy, batch.packets.len() as u64 - healthy)
    }
}
