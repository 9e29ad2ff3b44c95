//! Programs and filters by themselves; crates/hub/tests/filters has them beside libpcap.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::operation::Operation;
use super::*;
use crate::linktype::LinkType;

const RETURN_A: Instruction = Instruction::new(code::RETURN_A, 0);

/// What instructions give of these octets, with the original length 1000.
fn run(instructions: &[Instruction], octets: &[u8]) -> u32 {
    Program::new(instructions.to_vec()).unwrap().run(octets, 1000)
}

/// What is in A after these instructions.
fn a_after(instructions: &[Instruction], octets: &[u8]) -> u32 {
    run(&[instructions, &[RETURN_A]].concat(), octets)
}

fn error(instructions: &[Instruction]) -> String {
    Program::new(instructions.to_vec()).unwrap_err().to_string()
}

#[test]
fn an_operation_has_16_octets() {
    assert_eq!(size_of::<Operation>(), 16);
}

#[test]
fn loads_are_in_network_byte_order_and_end_at_the_last_octet() {
    let octets = [1, 2, 3, 4, 5];
    for (code, offset, expected) in [
        (code::LOAD_BYTE, 4, 5),
        (code::LOAD_HALF, 3, 0x0405),
        (code::LOAD_WORD, 1, 0x0203_0405),
        (code::LOAD_BYTE, 5, 0),
        (code::LOAD_HALF, 4, 0),
        (code::LOAD_WORD, 2, 0),
        (code::LOAD_BYTE, u32::MAX, 0),
        (code::LOAD_WORD, u32::MAX - 1, 0),
    ] {
        assert_eq!(a_after(&[Instruction::new(code, offset)], &octets), expected, "{code:#x} {offset}");
    }
}

#[test]
fn an_index_is_added_and_does_not_wrap_around() {
    let octets = [1, 2, 3, 4, 5];
    for (code, x, offset, expected) in [
        (code::LOAD_BYTE_INDEXED, 1, 2, 4),
        (code::LOAD_HALF_INDEXED, 2, 1, 0x0405),
        (code::LOAD_WORD_INDEXED, 1, 0, 0x0203_0405),
        (code::LOAD_WORD_INDEXED, 1, 1, 0),
        (code::LOAD_BYTE_INDEXED, u32::MAX, 2, 0),
        (code::LOAD_BYTE_INDEXED, 2, u32::MAX, 0),
    ] {
        let program = [Instruction::new(code::LOAD_X_CONSTANT, x), Instruction::new(code, offset)];
        assert_eq!(a_after(&program, &octets), expected, "{code:#x} {x} {offset}");
    }
}

#[test]
fn a_load_outside_of_the_packet_is_no_match_whatever_follows() {
    let accept = Instruction::new(code::RETURN, 7);
    // −4096 is where the Linux extensions begin.
    for offset in [1, 0xffff_f000, u32::MAX] {
        assert_eq!(run(&[Instruction::new(code::LOAD_BYTE, offset), accept], &[0]), 0);
        assert_eq!(run(&[Instruction::new(code::LOAD_X_HEADER_LEN, offset), accept], &[0]), 0);
    }
}

#[test]
fn the_header_length_is_four_times_the_low_nibble() {
    let program = [Instruction::new(code::LOAD_X_HEADER_LEN, 1), Instruction::new(code::X_TO_A, 0), RETURN_A];
    assert_eq!(run(&program, &[0xff, 0x46]), 24);
}

#[test]
fn the_length_is_the_original_one() {
    assert_eq!(a_after(&[Instruction::new(code::LOAD_LEN, 0)], &[1]), 1000);
    let through_x = [Instruction::new(code::LOAD_X_LEN, 0), Instruction::new(code::X_TO_A, 0)];
    assert_eq!(a_after(&through_x, &[1]), 1000);
}

#[test]
fn arithmetic_wraps_and_is_the_same_with_a_constant_and_with_x() {
    for (code, a, by, expected) in [
        (code::ADD, u32::MAX, 2, 1),
        (code::SUBTRACT, 1, 2, u32::MAX),
        (code::MULTIPLY, 0x8000_0001, 2, 2),
        (code::DIVIDE, 7, 2, 3),
        (code::REMAINDER, 7, 4, 3),
        (code::OR, 5, 2, 7),
        (code::AND, 6, 3, 2),
        (code::EXCLUSIVE_OR, 6, 3, 5),
        (code::SHIFT_LEFT, 3, 31, 0x8000_0000),
        (code::SHIFT_LEFT, 3, 32, 0),
        (code::SHIFT_RIGHT, 0x8000_0000, 31, 1),
        (code::SHIFT_RIGHT, 0x8000_0000, u32::MAX, 0),
    ] {
        let begin = [Instruction::new(code::LOAD_X_CONSTANT, by), Instruction::new(code::LOAD_CONSTANT, a)];
        for how in [Instruction::new(code, by), Instruction::new(code | code::X, 99)] {
            assert_eq!(a_after(&[&begin[..], &[how]].concat(), &[]), expected, "{how:?}");
        }
    }
    let negate = [Instruction::new(code::LOAD_CONSTANT, 1), Instruction::new(code::NEGATE, 0)];
    assert_eq!(a_after(&negate, &[]), u32::MAX);
}

#[test]
fn division_by_an_index_of_zero_is_no_match() {
    let accept = Instruction::new(code::RETURN, 7);
    for code in [code::DIVIDE, code::REMAINDER] {
        assert_eq!(run(&[Instruction::new(code | code::X, 0), accept], &[]), 0);
        assert_eq!(error(&[Instruction::new(code, 0), accept]), "instruction 0: it divides by zero");
    }
}

#[test]
fn tests_are_unsigned_and_the_same_with_a_constant_and_with_x() {
    for (code, a, k, expected) in [
        (code::EQUAL, 5, 5, 1),
        (code::EQUAL, 5, 4, 2),
        (code::GREATER, 0x8000_0000, 5, 1),
        (code::GREATER, 5, 5, 2),
        (code::AT_LEAST, 5, 5, 1),
        (code::AT_LEAST, 4, 5, 2),
        (code::AT_LEAST, 0, 0, 1),
        (code::ANY_BIT, 6, 2, 1),
        (code::ANY_BIT, 4, 3, 2),
        (code::ANY_BIT, 4, 0, 2),
    ] {
        let begin = [Instruction::new(code::LOAD_X_CONSTANT, k), Instruction::new(code::LOAD_CONSTANT, a)];
        let end = [Instruction::new(code::RETURN, 1), Instruction::new(code::RETURN, 2)];
        for how in [Instruction::test(code, k, 0, 1), Instruction::test(code | code::X, 99, 0, 1)] {
            assert_eq!(run(&[&begin[..], &[how], &end].concat(), &[]), expected, "{how:?} {a} {k}");
        }
    }
}

#[test]
fn a_test_leaves_in_the_accumulator_what_was_loaded_before_it() {
    for (load, offset) in [
        (code::LOAD_WORD, 0),
        (code::LOAD_HALF, 2),
        (code::LOAD_BYTE, 3),
        (code::LOAD_HALF_INDEXED, 2),
        (code::LOAD_BYTE_INDEXED, 3),
    ] {
        let program =
            [Instruction::new(load, offset), Instruction::test(code::EQUAL, 9, 1, 0), RETURN_A, RETURN_A];
        assert_eq!(run(&program, &[0, 0, 0, 8]), 8);
        assert_eq!(run(&program, &[0, 0, 0, 9]), 9);
    }
}

#[test]
fn memory_begins_as_zeros_and_keeps_what_is_stored() {
    let (store, load) = (Instruction::new(code::STORE_X, 15), Instruction::new(code::LOAD_MEMORY, 15));
    let x = Instruction::new(code::LOAD_X_CONSTANT, 3);
    assert_eq!(a_after(&[x, load], &[]), 0);
    assert_eq!(a_after(&[x, store, load], &[]), 3);
    let (store, load) = (Instruction::new(code::STORE, 0), Instruction::new(code::LOAD_X_MEMORY, 0));
    let a = Instruction::new(code::LOAD_CONSTANT, 4);
    assert_eq!(a_after(&[a, store, load, Instruction::new(code::X_TO_A, 0)], &[]), 4);
    assert_eq!(
        error(&[Instruction::new(code::STORE, 16), RETURN_A]),
        "instruction 0: there is no memory word 16"
    );
}

#[test]
fn a_program_that_is_none_is_refused_with_the_place_of_its_fault() {
    let go = |k: i32| Instruction::new(code::JUMP, k.cast_unsigned());
    assert_eq!(error(&[]), "the program has 0 instructions; 1 to 4096 are possible; use a shorter filter");
    assert!(error(&[RETURN_A; 4097]).starts_with("the program has 4097 instructions"));
    assert!(Program::new(vec![RETURN_A; 4096]).is_ok());
    let unknown = Instruction::new(0x0d, 0);
    assert_eq!(error(&[RETURN_A, unknown, RETURN_A]), "instruction 1: there is no instruction 0x000d");
    for (wrong, skipped) in [(go(1), 1), (go(-1), -1), (go(-2), -2), (go(i32::MAX), i64::from(i32::MAX))] {
        let expected = format!("instruction 0: it jumps by {skipped}, to itself or out of the program");
        assert_eq!(error(&[wrong, RETURN_A]), expected);
    }
    assert!(error(&[Instruction::test(code::EQUAL, 0, 0, 1), RETURN_A]).contains("it jumps by 1"));
    assert_eq!(
        error(&[RETURN_A, Instruction::new(code::NEGATE, 0)]),
        "instruction 1: the program does not end with a return"
    );
}

#[test]
fn every_other_code_is_refused() {
    let known = (0..=u16::MAX)
        .filter(|code| Program::new(vec![Instruction::new(*code, 1), RETURN_A, RETURN_A]).is_ok());
    // 13 loads, 2 stores, 10 operations in two forms, negation, 4 tests in two forms, a jump, 2
    // returns, 2 moves.
    assert_eq!(known.count(), 13 + 2 + 20 + 1 + 8 + 1 + 2 + 2);
}

#[test]
fn a_program_that_jumps_back_ends_all_the_same() {
    // Counts A up to 64, or without end.
    let counts = |limit: u32| {
        Program::new(vec![
            Instruction::new(code::ADD, 1),
            Instruction::test(code::AT_LEAST, limit, 1, 0),
            Instruction::new(code::JUMP, (-3_i32).cast_unsigned()),
            RETURN_A,
        ])
        .unwrap()
    };
    assert_eq!(counts(65).run(&[], 0), 65);
    assert_eq!(counts(66).run(&[], 0), 0);
    assert!(counts(1).has_loop());
    assert!(!Program::accept_all().has_loop());
}

#[test]
fn the_two_simplest_programs_take_everything_and_nothing() {
    assert_eq!(Program::accept_all().run(&[], 0), u32::MAX);
    assert!(Program::accept_all().accepts(&[], 0));
    assert!(!Program::reject_all().accepts(&[1], 1));
    for program in [Program::accept_all(), Program::reject_all()] {
        assert_eq!(Program::new(program.instructions().to_vec()), Ok(program));
    }
}

/// Understands nothing but the names of linktypes, and counts how often it is asked.
#[derive(Default)]
struct Fake(AtomicUsize);

impl Compile for Fake {
    fn compile(&self, expression: &str, linktype: LinkType, snaplen: u32) -> Result<Program, CompileError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        match expression {
            "none" => Err(CompileError::NoCompiler { remedy: "install one".into() }),
            "never" => Err(CompileError::RejectsAll { linktype }),
            "any" => Ok(Program::new(vec![Instruction::new(code::RETURN, snaplen)]).unwrap()),
            "wlan" if linktype.0 == 127 => Ok(Program::accept_all()),
            _ => Err(CompileError::Refused { linktype, text: "syntax error".into() }),
        }
    }
}

#[test]
fn a_filter_is_compiled_once_for_each_linktype_and_shared_by_its_clones() {
    let fake = Arc::new(Fake::default());
    let filter = Filter::new("any", 96, fake.clone()).unwrap();
    for _ in 0..3 {
        assert_eq!(filter.clone().program(LinkType::ETHERNET).unwrap().run(&[], 0), 96);
        assert!(filter.program(LinkType::RAW).is_ok());
    }
    assert_eq!(fake.0.load(Ordering::Relaxed), 2);
    assert_eq!((filter.text(), filter.to_string().as_str()), ("any", "any"));
}

#[test]
fn a_filter_for_another_linktype_than_ethernet_is_good() {
    let filter = Filter::new("wlan", 0, Arc::new(Fake::default())).unwrap();
    assert!(filter.program(LinkType(127)).is_ok());
    let error = filter.program(LinkType::ETHERNET).unwrap_err();
    assert_eq!(error.to_string(), "syntax error, for Ethernet (linktype 1)");
    assert!(Arc::ptr_eq(&error, &filter.program(LinkType::ETHERNET).unwrap_err()));
}

#[test]
fn a_filter_that_is_good_for_no_linktype_is_refused_at_once() {
    let error = |text: &str| Filter::new(text, 0, Arc::new(Fake::default())).unwrap_err().to_string();
    assert_eq!(error("typo"), "syntax error, for Ethernet (linktype 1)");
    assert_eq!(error("never"), "no packet of Ethernet (linktype 1) can match");
    assert_eq!(error("none"), "filters cannot be compiled: install one");
}

#[test]
fn a_stream_that_names_every_linktype_does_not_grow_a_filter_nor_keep_its_compiler_busy() {
    let fake = Arc::new(Fake::default());
    let filter = Filter::new("any", 96, fake.clone()).unwrap();
    for linktype in 0..=u16::MAX {
        assert_eq!(filter.program(LinkType(linktype)).is_ok(), usize::from(linktype) < MAX_LINKTYPES);
    }
    assert_eq!(fake.0.load(Ordering::Relaxed), MAX_LINKTYPES);
    assert_eq!(
        filter.program(LinkType(300)).unwrap_err().to_string(),
        "linktype 300 is one linktype too many; a filter is compiled for 256 at most"
    );
}
