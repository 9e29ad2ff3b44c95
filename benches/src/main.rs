//! `./bench`: pcaphub and its peers in turn, A B A B, medians and ratios of one run.

mod aggregate;
mod captures;
mod fanout;
mod harness;
mod filter;
mod latency;
mod live;
mod network;
mod merge;
mod serve;
mod soak;
mod tls;

use anyhow::{Result, bail};

/// How much is done.
pub(crate) struct Effort {
    /// Runs of each command.
    pub(crate) pairs: usize,
    /// Packets of the large capture.
    pub(crate) packets: usize,
}

type Line = (&'static str, &'static str, fn(&Effort) -> Result<()>);

const LINES: &[Line] = &[
    ("serve", "a file to one client, beside nc -l and socat", serve::run),
    ("tls", "a file inside TLS to one client, beside socat", tls::run),
    ("private", "100 clients of one file, each from its beginning: peak memory", serve::hundred),
    ("fanout", "one stream on standard input to 1, 8, 32, 100 clients", fanout::run),
    ("aggregate", "four producers over TCP into one ordered stream", aggregate::run),
    ("merge", "16 files into a pipe, beside mergecap", merge::run),
    ("latency", "one packet through an idle hub, beside nc -l", latency::run),
    ("filter", "the interpreter of filters, beside libpcap's own", filter::run),
    ("filtered", "100 clients with ten filters, beside 100 with none", fanout::filtered),
    ("capture", "an interface to one client, beside tcpdump | nc", live::capture_to_client),
    ("delay", "from the wire to the client, beside tcpdump | nc", live::latency),
    ("replay", "onto an interface, beside tcpreplay", live::replay),
];

fn main() -> Result<()> {
    let mut effort = Effort { pairs: 5, packets: 2_800_000 };
    let mut asked = Vec::new();
    let mut arguments = std::env::args().skip(1);
    if let (Some("soak"), Some(minutes)) = (std::env::args().nth(1).as_deref(), std::env::args().nth(2)) {
        return soak::run(minutes.parse()?);
    }
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--quick" => effort = Effort { pairs: 2, packets: 400_000 },
            "--pairs" => effort.pairs = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(effort.pairs),
            "-h" | "--help" => {
                help();
                return Ok(());
            }
            name if LINES.iter().any(|(known, _, _)| *known == name) => asked.push(name.to_owned()),
            other => bail!("there is no line `{other}`; see ./bench --help"),
        }
    }
    for (name, about, run) in LINES {
        if asked.is_empty() || asked.iter().any(|a| a == name) {
            println!("\n## {name}: {about}");
            run(&effort)?;
        }
    }
    Ok(())
}

fn help() {
    println!("./bench [--quick] [--pairs N] [LINE...]\n\nLines:");
    for (name, about, _) in LINES {
        println!("  {name:<10} {about}");
    }
    println!("\nDecoding and merging in core alone: cargo bench -p pcaphub-core");
}
