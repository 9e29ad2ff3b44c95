//! Filter text compiled by the libpcap of the system: what a [`Filter`]
//! is given where sources and sinks are opened.

use std::sync::Arc;

use pcaphub_core::filter::{Compile, CompileError, Filter, Instruction, Program};
use pcaphub_core::linktype::LinkType;
use pcaphub_sys::libpcap;

use crate::plan::PlanError;

/// The compiler of pcap-filter(7), with every word that the installed libpcap knows.
///
/// It is looked for when something is compiled, not before. Where libpcap is asked for a name, of a
/// host or a service, it looks that up, and blocks: not for an asynchronous task.
///
/// ```no_run
/// use std::sync::Arc;
/// use pcaphub::filter::Libpcap;
/// use pcaphub_core::{filter::Filter, linktype::LinkType};
///
/// let filter = Filter::new("tcp port 80 or udp port 53", 0, Arc::new(Libpcap))?;
/// let program = filter.program(LinkType::ETHERNET)?;
/// assert!(!program.accepts(&[0; 60], 60));
/// # Ok::<(), Arc<pcaphub_core::filter::CompileError>>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct Libpcap;

/// What libpcap says of `inbound`, `outbound` and `ifindex`.
const OF_FILES: &str = " when reading savefiles";

impl Compile for Libpcap {
    fn compile(&self, expression: &str, linktype: LinkType, snaplen: u32) -> Result<Program, CompileError> {
        let instructions = libpcap::compile(expression, linktype.0, snaplen);
        let instructions = instructions.map_err(|error| match error {
            libpcap::CompileError::NotInstalled(remedy) => CompileError::NoCompiler { remedy },
            libpcap::CompileError::UnknownLinkType => CompileError::UnknownLinkType(linktype),
            libpcap::CompileError::RejectsAll => CompileError::RejectsAll { linktype },
            libpcap::CompileError::Refused(text) => {
                let text = text.replace(OF_FILES, ": its packets do not carry that, those of if:any do");
                CompileError::Refused { linktype, text }
            }
        })?;
        let ours = |&libpcap::Instruction { code, jt, jf, k }| Instruction { code, jt, jf, k };
        Ok(Program::new(instructions.iter().map(ours).collect())?)
    }
}

/// The filter of an endpoint, by its text.
///
/// # Errors
/// What is wrong with the text, or that libpcap is missing.
pub fn compiled(endpoint: &str, text: &str) -> Result<Filter, PlanError> {
    Filter::new(text, 0, Arc::new(Libpcap)).map_err(|error| unusable(endpoint, text, &error))
}

/// What is wrong with the filter of an endpoint.
pub fn unusable(endpoint: &str, text: &str, error: &CompileError) -> PlanError {
    let (endpoint, filter) = (endpoint.into(), text.into());
    match error {
        CompileError::NoCompiler { .. } => {
            PlanError::NoCompiler { endpoint, filter, remedy: error.to_string() }
        }
        _ => PlanError::Filter { endpoint, filter, why: error.to_string() },
    }
}
