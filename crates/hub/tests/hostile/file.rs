//! Bad streams as files, beside a good one: through the hub that all sinks share, and replayed.

use std::io::Write;
use std::path::Path;

use pcaphub_core::format::{DecoderOptions, Format};
use pcaphub_core::linktype::LinkType;
use tempfile::{NamedTempFile, TempDir};

use crate::expected::{Expected, assert_counted, endpoint};
use crate::site::{Consumer, healthy_record, run};

/// Packets of the good file.
const GOOD: u32 = 100;
/// What a packed file begins with: it is unpacked, which has tests of its own.
const PACKED: [&[u8]; 3] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"];

/// Both ways count what is expected, tell the error, and pass on all of the good file.
#[track_caller]
pub(crate) fn check(options: &DecoderOptions, stream: &[u8], expected: &Expected) {
    if PACKED.iter().any(|magic| stream.starts_with(magic)) {
        return;
    }
    let mut good = Format::Pcap.header(LinkType::ETHERNET).to_vec();
    (0..GOOD).for_each(|number| good.extend(healthy_record(number)));
    let (bad, good) = (written(stream), written(&good));
    let of = |file: &NamedTempFile| file.path().to_str().unwrap().to_owned();
    let healthy = DecoderOptions { name: Some("healthy".into()), ..options.clone() };
    let sources = || vec![endpoint(&of(&bad), options, &[]), endpoint(&of(&good), &healthy, &[])];

    let outcome = run(sources(), "null:").unwrap().ended();
    assert_counted(&outcome.report, 0, expected);
    assert_eq!(outcome.report.sources[1].forwarded, u64::from(GOOD));
    assert_eq!(outcome.errors.len(), usize::from(expected.error.is_some()));

    let folder = TempDir::new().unwrap();
    let out = folder.path().join("out.pcapng");
    let replayed = run(sources(), out.to_str().unwrap());
    if !expected.is_capture {
        let refused = replayed.err().expect("what is no capture is refused at once").to_string();
        assert!(refused.contains(expected.error.as_deref().unwrap()), "{refused}");
        return;
    }
    let outcome = replayed.unwrap().ended();
    assert_counted(&outcome.report, 0, expected);
    assert_eq!(outcome.errors.len(), usize::from(expected.error.is_some()));
    assert_eq!(packets_of(&out), (u64::from(GOOD), expected.packets));
}

fn written(octets: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(octets).unwrap();
    file
}

/// Packets of the good and of the bad source that a hub wrote.
fn packets_of(path: &Path) -> (u64, u64) {
    Consumer::default().take(&std::fs::read(path).unwrap())
}
