//! A filter as a user wrote it, with a program for each linktype that has been met.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::compile::{Compile, CompileError};
use super::program::Program;
use crate::linktype::LinkType;

/// A filter expression, in the language of pcap-filter(7), and its programs. Clones share them;
/// any thread may use them.
///
/// What an expression means depends on the linktype, and whether it means anything: `wlan type mgt`
/// does for IEEE 802.11 alone. So there is a result for each linktype, made when it is first asked
/// for.
#[derive(Clone)]
pub struct Filter {
    shared: Arc<Shared>,
    whose: Arc<str>,
}

struct Shared {
    text: String,
    snaplen: u32,
    compiler: Arc<dyn Compile>,
    /// At most [`MAX_LINKTYPES`]; nearly always one.
    compiled: RwLock<Vec<(LinkType, Compiled)>>,
    /// Linktypes of which it was told that there is no program.
    told: Mutex<Vec<LinkType>>,
}

type Compiled = Result<Arc<Program>, Arc<CompileError>>;

/// Linktypes that a filter is compiled for at most: more than a libpcap knows, less than a hostile
/// stream can name.
pub const MAX_LINKTYPES: usize = 256;

/// What an expression is tried with that Ethernet refuses: one for each family of primitives that
/// Ethernet has not: `inbound` and `ifindex`, `wlan`, `on` and `rulenum` of pf, `vpi` and `lane` of
/// SunATM, `fisu` and `dpc` of SS7.
const OTHER_LINKTYPES: [LinkType; 5] =
    [LinkType::SLL2, LinkType(127), LinkType(117), LinkType(123), LinkType(139)];

impl Filter {
    /// A filter of a text that means something for Ethernet or else for some other linktype; an
    /// empty one matches every packet. Programs return `snaplen` for what they accept, 0 stands for
    /// 262,144.
    ///
    /// It may take long, while names in the text are looked up. Who knows the linktypes to come
    /// asks [`program`](Filter::program) for each, and has the errors at start.
    ///
    /// # Errors
    /// That of Ethernet, if no other linktype has a program either; no packet of Ethernet can match,
    /// as those of `tcp and udp`; there is no compiler.
    pub fn new(
        text: impl Into<String>,
        snaplen: u32,
        compiler: Arc<dyn Compile>,
    ) -> Result<Filter, Arc<CompileError>> {
        let (compiled, told) = (RwLock::default(), Mutex::default());
        let shared = Shared { text: text.into(), snaplen, compiler, compiled, told };
        let result = shared.compile(LinkType::ETHERNET);
        if let Err(error) = &result {
            let elsewhere = |linktype: LinkType| shared.compile(linktype).is_ok();
            let refused = matches!(error, CompileError::Refused { .. });
            if !refused || !OTHER_LINKTYPES.into_iter().any(elsewhere) {
                return Err(Arc::new(error.clone()));
            }
        }
        // Whatever it is, it is asked for again.
        let _ = shared.keep(LinkType::ETHERNET, result);
        Ok(Filter { shared: Arc::new(shared), whose: "".into() })
    }

    /// The same as the filter of somebody, for people.
    #[must_use]
    pub fn of(self, whose: impl Into<Arc<str>>) -> Filter {
        Filter { whose: whose.into(), ..self }
    }

    /// Whose it is, for people; empty where nobody said.
    pub fn whose(&self) -> &str {
        &self.whose
    }

    /// The expression, as it was written.
    pub fn text(&self) -> &str {
        &self.shared.text
    }

    /// The program for packets of a linktype; compiled when first asked for, which may take long,
    /// and kept. Where no packet of the linktype can match it is one that accepts none.
    ///
    /// # Errors
    /// Why there is none; the same from the second time on. [`first_tells`](Filter::first_tells) has it told
    /// once.
    pub fn program(&self, linktype: LinkType) -> Result<Arc<Program>, Arc<CompileError>> {
        if let Some(compiled) = self.shared.known(linktype) {
            return compiled;
        }
        // Not under the lock: a name that resolves slowly holds nobody else.
        let result = self.shared.compile(linktype);
        self.shared.keep(linktype, result)
    }

    /// Whether nobody was told yet that it has no program for a linktype; whoever asks tells it.
    pub fn first_tells(&self, linktype: LinkType) -> bool {
        let mut told = self.shared.told.lock().unwrap_or_else(PoisonError::into_inner);
        let first = told.len() < MAX_LINKTYPES && !told.contains(&linktype);
        if first {
            told.push(linktype);
        }
        first
    }
}

impl Shared {
    /// What is known of a linktype; once there are too many, of every one.
    fn known(&self, linktype: LinkType) -> Option<Compiled> {
        let all = self.compiled.read().unwrap_or_else(PoisonError::into_inner);
        match all.iter().find(|(known, _)| *known == linktype) {
            Some((_, compiled)) => Some(compiled.clone()),
            None if all.len() >= MAX_LINKTYPES => {
                Some(Err(Arc::new(CompileError::TooManyLinkTypes(linktype))))
            }
            None => None,
        }
    }

    fn compile(&self, linktype: LinkType) -> Result<Program, CompileError> {
        self.compiler.compile(&self.text, linktype, self.snaplen)
    }

    /// Keeps a result, or gives the one that another thread had first.
    fn keep(&self, linktype: LinkType, result: Result<Program, CompileError>) -> Compiled {
        let mut all = self.compiled.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, earlier)) = all.iter().find(|(known, _)| *known == linktype) {
            return earlier.clone();
        }
        if all.len() >= MAX_LINKTYPES {
            return Err(Arc::new(CompileError::TooManyLinkTypes(linktype)));
        }
        let compiled = match result {
            Err(CompileError::RejectsAll { .. }) => Ok(Arc::new(Program::reject_all())),
            result => result.map(Arc::new).map_err(Arc::new),
        };
        all.push((linktype, compiled.clone()));
        compiled
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.text()).finish()
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}
