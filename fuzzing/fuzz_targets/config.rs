//! No configuration file panics; its errors have places within it; and what was read is printed as a file
//! that says the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pcaphub::config::{Filters, parse_with, printed};
use pcaphub::opener::System;

fuzz_target!(|text: &str| {
    match parse_with(text, &System, Filters::Keep) {
        Ok(config) => {
            let again = printed(&config);
            match parse_with(&again, &System, Filters::Keep) {
                Ok(read) => assert!(read == config, "{text:?} is printed as {again:?}"),
                Err(errors) => panic!("{text:?} is printed as {again:?}: {errors}"),
            }
        }
        Err(errors) => {
            assert!(!errors.errors.is_empty());
            let lines = text.matches('\n').count() + 1;
            for error in &errors.errors {
                assert!((1..=lines).contains(&error.line) && error.column >= 1, "{text:?}: {error}");
            }
        }
    }
});
