//! Endpoints are what people type and scripts put together: no text panics, and what was understood
//! is understood again from what is shown of it, files aside.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pcaphub::endpoint::{Endpoint, Scheme};
use pcaphub::{sink, source};

fuzz_target!(|text: &str| {
    let (text, option) = text.split_once('\n').unwrap_or((text, "name=x"));
    let Ok(endpoint) = Endpoint::parse(text) else { return };
    let shown = endpoint.to_string();
    // A file's name is shown as it is, even where it looks like something else.
    let plain = !matches!(endpoint.scheme, Scheme::File) && !endpoint.address.contains(['?', '%']);
    if plain {
        let again = Endpoint::parse(&shown);
        let again = again.unwrap_or_else(|error| panic!("{text:?} is shown as {shown:?}: {error}"));
        assert_eq!((again.scheme, &again.address), (endpoint.scheme, &endpoint.address), "{text:?}");
    }
    let _ = source::spec(endpoint.clone());
    let _ = sink::spec(endpoint.clone());
    if let Ok(more) = endpoint.with_option(option) {
        let _ = source::spec(more.clone());
        let _ = sink::spec(more);
    }
});
