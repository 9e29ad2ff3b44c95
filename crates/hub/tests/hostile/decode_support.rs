//! The rows' helpers: those of the core, and a `decode` that sends the stream through hubs as well.

pub(crate) use crate::core_support::*;

use pcaphub_core::format::DecoderOptions;

use crate::expected::Expected;
use crate::{dialled, file, listening};

/// Decodes a stream, and has hubs read it from files and sockets: always the same.
#[track_caller]
pub(crate) fn decode(stream: &[u8]) -> Outcome {
    decode_with(&options(), stream)
}

#[track_caller]
pub(crate) fn decode_with(options: &DecoderOptions, stream: &[u8]) -> Outcome {
    let outcome = decode_pieces(options, &[stream]);
    // Nothing at all is no error of a socket's; it has a test of its own.
    if !stream.is_empty() {
        let expected = Expected::of(&outcome);
        listening::check(options, stream, &expected);
        dialled::check(options, stream, &expected);
        file::check(options, stream, &expected);
    }
    outcome
}
