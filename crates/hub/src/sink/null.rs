//! A sink that counts and discards.

use std::collections::VecDeque;

use super::{Context, Opening, Sink, SinkError};
use crate::plan::SinkSpec;
use crate::source::Pending;

/// Octets taken at once.
const TAKE: usize = 1 << 20;

struct Null(String);

pub(super) fn open(spec: &SinkSpec, _: &Opening) -> Result<Box<dyn Sink>, SinkError> {
    Ok(Box::new(Null(spec.name.to_string())))
}

impl Sink for Null {
    fn run(self: Box<Self>, context: Context) -> Pending<'static, Result<(), String>> {
        let subscriber = context.subscribe(&self.0);
        Box::pin(async move {
            let mut hand = VecDeque::new();
            while std::future::poll_fn(|cx| subscriber.poll_take(cx, TAKE, &mut hand)).await.is_ok() {
                let octets = hand.iter().map(|chunk| chunk.octets.len()).sum();
                subscriber.confirm(hand.len(), octets);
                hand.clear();
            }
            Ok(())
        })
    }
}
