//! Classic BPF with labels instead of distances.

use pcaphub_sys::bpf::Instruction;

use super::{MAX_INSTRUCTIONS, TooLarge};

/// A place to jump to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Label(usize);

/// Instructions whose jumps go to labels. Conditions reach 255 instructions only, so each one skips, or
/// does not skip, a jump that reaches everywhere; the one after it is taken out where it can.
#[derive(Default)]
pub(super) struct Assembler {
    code: Vec<Line>,
    places: Vec<Option<usize>>,
}

enum Line {
    Plain(Instruction),
    /// If the condition holds (or does not), on to the label.
    Branch {
        code: u16,
        k: u32,
        holds: bool,
        to: Label,
    },
    Go(Label),
}

impl Assembler {
    pub(super) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    pub(super) fn place(&mut self, label: Label) {
        if let Some(place) = self.places.get_mut(label.0) {
            *place = Some(self.code.len());
        }
    }

    pub(super) fn push(&mut self, code: u16, k: u32) {
        self.code.push(Line::Plain(Instruction { code, jt: 0, jf: 0, k }));
    }

    pub(super) fn load(&mut self, code: u16, k: u32) {
        self.push(code, k);
    }

    pub(super) fn append(&mut self, program: &[Instruction]) {
        self.code.extend(program.iter().copied().map(Line::Plain));
    }

    pub(super) fn go(&mut self, to: Label) {
        self.code.push(Line::Go(to));
    }

    pub(super) fn if_equal(&mut self, k: u32, to: Label) {
        self.code.push(Line::Branch { code: JEQ, k, holds: true, to });
    }

    pub(super) fn unless_equal(&mut self, k: u32, to: Label) {
        self.code.push(Line::Branch { code: JEQ, k, holds: false, to });
    }

    pub(super) fn if_at_least(&mut self, k: u32, to: Label) {
        self.code.push(Line::Branch { code: JGE, k, holds: true, to });
    }

    pub(super) fn unless_at_least(&mut self, k: u32, to: Label) {
        self.code.push(Line::Branch { code: JGE, k, holds: false, to });
    }

    /// Compares with X.
    pub(super) fn unless_at_least_x(&mut self, to: Label) {
        self.code.push(Line::Branch { code: JGE_X, k: 0, holds: false, to });
    }

    pub(super) fn if_any(&mut self, k: u32, to: Label) {
        self.code.push(Line::Branch { code: JSET, k, holds: true, to });
    }

    pub(super) fn finish(self) -> Result<Vec<Instruction>, TooLarge> {
        // A branch is one instruction where its label is near, else two. Lines only move apart by
        // that, so this ends.
        let mut long = vec![false; self.code.len()];
        loop {
            let mut starts = Vec::with_capacity(self.code.len() + 1);
            let mut at = 0usize;
            for is_long in &long {
                starts.push(at);
                at += 1 + usize::from(*is_long);
            }
            starts.push(at);
            if at > MAX_INSTRUCTIONS {
                return Err(TooLarge);
            }
            let target = |label: Label| {
                let line = self.places.get(label.0).copied().flatten().unwrap_or(self.code.len());
                starts.get(line).copied().unwrap_or(at)
            };
            let mut grown = false;
            let mut program = Vec::with_capacity(at);
            for (line, is_long) in self.code.iter().zip(&mut long) {
                let here = program.len() + 1;
                match line {
                    Line::Plain(instruction) => program.push(*instruction),
                    Line::Go(to) => program.push(jump(target(*to).saturating_sub(here))),
                    Line::Branch { code, k, holds, to } => {
                        let distance = target(*to).saturating_sub(here);
                        let near = u8::try_from(distance);
                        let (hit, miss) = match (*is_long, near) {
                            (false, Ok(near)) => (near, 0),
                            (false, Err(_)) => {
                                (grown, *is_long) = (true, true);
                                (0, 0)
                            }
                            (true, _) => (0, 1),
                        };
                        let (jt, jf) = if *holds { (hit, miss) } else { (miss, hit) };
                        program.push(Instruction { code: *code, jt, jf, k: *k });
                        if *is_long && !grown {
                            program.push(jump(distance.saturating_sub(1)));
                        }
                    }
                }
            }
            if !grown {
                return Ok(program);
            }
        }
    }
}

fn jump(distance: usize) -> Instruction {
    Instruction { code: JA, jt: 0, jf: 0, k: u32::try_from(distance).unwrap_or(u32::MAX) }
}

const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const JGE_X: u16 = 0x3d;
const JSET: u16 = 0x45;
