//! What flows say: DNS, HTTP, TLS and NTP messages, well-formed octet by octet.

use super::random::Random;

/// A DNS question for `name` (RFC 1035, section 4.1); `kind` is 1 for A, 28 for AAAA.
pub(super) fn dns_query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = header(id, 0x0100, 0);
    question(&mut message, name, kind);
    message
}

/// Its answer, with one address, or that the name does not exist.
pub(super) fn dns_answer(id: u16, name: &str, kind: u16, address: Option<&[u8]>) -> Vec<u8> {
    let flags = if address.is_some() { 0x8180 } else { 0x8183 };
    let mut message = header(id, flags, u16::from(address.is_some()));
    question(&mut message, name, kind);
    if let Some(address) = address {
        // A pointer to the name in the question, at octet 12.
        message.extend(0xc00cu16.to_be_bytes());
        message.extend(kind.to_be_bytes());
        message.extend(1u16.to_be_bytes());
        message.extend(300u32.to_be_bytes());
        message.extend((address.len() as u16).to_be_bytes());
        message.extend_from_slice(address);
    }
    message
}

fn header(id: u16, flags: u16, answers: u16) -> Vec<u8> {
    [id, flags, 1, answers, 0, 0].iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn question(message: &mut Vec<u8>, name: &str, kind: u16) {
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(1u16.to_be_bytes());
}

/// An HTTP/1.1 request.
pub(super) fn http_request(host: &str, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: demo/1.0\r\nAccept: */*\r\n\
         Accept-Language: en\r\nConnection: close\r\n\r\n"
    )
    .into_bytes()
}

/// The beginning of a response whose body has `length` octets.
pub(super) fn http_response(length: usize) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nServer: demo\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    )
    .into_bytes()
}

/// `count` octets of a text body from its octet `at` on.
pub(super) fn body(at: usize, count: usize) -> impl Iterator<Item = u8> {
    const TEXT: &[u8] = b"The quick brown fox jumps over the lazy dog.\n";
    TEXT.iter().copied().cycle().skip(at % TEXT.len()).take(count)
}

/// A TLS record of protocol version 1.2 on the wire (RFC 8446, section 5.1).
fn record(kind: u8, version: u16, fragment: &[u8]) -> Vec<u8> {
    let mut record = vec![kind];
    record.extend(version.to_be_bytes());
    record.extend((fragment.len() as u16).to_be_bytes());
    record.extend_from_slice(fragment);
    record
}

/// `octets` with their length before them, in 8, 16 or 24 bits.
fn counted<const BITS: u32>(octets: &[u8]) -> Vec<u8> {
    let length = (octets.len() as u32).to_be_bytes();
    let width = BITS as usize / 8;
    let mut counted = length.get(4 - width..).unwrap_or_default().to_vec();
    counted.extend_from_slice(octets);
    counted
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &counted::<16>(content)].concat()
}

/// A ClientHello with server name, ALPN, groups, versions and a key share (RFC 8446, 4.1.2).
pub(super) fn client_hello(random: &mut Random, name: &str) -> Vec<u8> {
    let server_name = counted::<16>(&[&[0u8][..], &counted::<16>(name.as_bytes())].concat());
    let protocols = counted::<16>(&[counted::<8>(b"h2"), counted::<8>(b"http/1.1")].concat());
    let share = [&0x001du16.to_be_bytes()[..], &counted::<16>(&random.octets::<32>())].concat();
    let extensions = [
        extension(0x0000, &server_name),
        extension(0x000a, &counted::<16>(&[0, 0x1d, 0, 0x17])),
        extension(0x000d, &counted::<16>(&[4, 3, 8, 4, 4, 1])),
        extension(0x0010, &protocols),
        extension(0x002b, &counted::<8>(&[3, 4, 3, 3])),
        extension(0x0033, &counted::<16>(&share)),
    ];
    let hello = [
        &0x0303u16.to_be_bytes()[..],
        &random.octets::<32>(),
        &counted::<8>(&random.octets::<32>()),
        &counted::<16>(&[0x13, 1, 0x13, 2, 0xc0, 0x2f]),
        &counted::<8>(&[0]),
        &counted::<16>(&extensions.concat()),
    ];
    let handshake = [&[1u8][..], &counted::<24>(&hello.concat())].concat();
    record(22, 0x0301, &handshake)
}

/// A ServerHello, and what follows it encrypted (RFC 8446, 4.1.3).
pub(super) fn server_hello(random: &mut Random) -> Vec<u8> {
    let share = [&0x001du16.to_be_bytes()[..], &counted::<16>(&random.octets::<32>())].concat();
    let extensions = [extension(0x002b, &[3, 4]), extension(0x0033, &share)];
    let hello = [
        &0x0303u16.to_be_bytes()[..],
        &random.octets::<32>(),
        &counted::<8>(&random.octets::<32>()),
        &[0x13, 1, 0],
        &counted::<16>(&extensions.concat()),
    ];
    let handshake = [&[2u8][..], &counted::<24>(&hello.concat())].concat();
    let changed = record(20, 0x0303, &[1]);
    [record(22, 0x0303, &handshake), changed, encrypted(random, 700)].concat()
}

/// A record of `length` octets that nobody can read.
pub(super) fn encrypted(random: &mut Random, length: usize) -> Vec<u8> {
    let mut fragment = vec![0; length];
    fragment.fill_with(|| random.next() as u8);
    record(23, 0x0303, &fragment)
}

/// An NTP packet, version 4 (RFC 5905, section 7.3): mode 3 asks, 4 answers.
pub(super) fn ntp(mode: u8, seconds: u64) -> Vec<u8> {
    let mut message = vec![0x20 | mode, if mode == 4 { 2 } else { 0 }, 6, 0xec];
    message.resize(40, 0);
    // Seconds since 1900.
    message.extend(((seconds + 2_208_988_800) as u32).to_be_bytes());
    message.extend([0; 4]);
    message
}
