//! Giving up rights for good: root, all capabilities, new privileges, files, core dumps.
//!
//! It holds for the calling thread and those that it starts, so it is done while there is only one.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use thiserror::Error;

/// Who the process becomes where the operator does not say.
const DEFAULT: [&str; 2] = ["pcaphub", "nobody"];
/// The number of nobody where the system has no list of users, as in small containers.
const NOBODY: u32 = 65534;

/// A user and a group without rights to spare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// As it is shown.
    pub name: String,
    /// The user.
    pub uid: u32,
    /// The only group.
    pub gid: u32,
}

/// Why rights could not be given up. The process has some of them still, and must not go on.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PrivilegeError {
    /// `--user` names nobody.
    #[error(
        "--user {0}: there is no such {1}; make it (`{1}add --system {0}`), or give another, by name or number"
    )]
    Unknown(String, &'static str),
    /// `--user` has no name before or behind its colon.
    #[error("--user {0:?}: it is NAME or NAME:GROUP, by name or number")]
    Nameless(String),
    /// The system refuses.
    #[error(
        "cannot give up root's rights: {step}: {why}; start pcaphub as an ordinary user (sources that need a \
         right get it by setcap, or AmbientCapabilities= under systemd), give a user that there is with \
         --user NAME, or keep root's rights with --user root"
    )]
    Refused {
        /// What was tried.
        step: String,
        /// What the system said.
        why: String,
    },
}

impl Identity {
    /// Who `NAME`, `NAME:GROUP` or numbers in their place is; by default `pcaphub`, else nobody.
    ///
    /// # Errors
    /// Nobody has that name.
    pub fn find(asked: Option<&str>) -> Result<Self, PrivilegeError> {
        let Some(asked) = asked else {
            let there = DEFAULT.iter().find_map(|name| Identity::find(Some(name)).ok());
            return Ok(there.unwrap_or(Identity { name: NOBODY.to_string(), uid: NOBODY, gid: NOBODY }));
        };
        let (user, group) = match asked.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (asked, None),
        };
        // The last number means nobody at all to the system.
        let none = |name: &str| name.is_empty() || name == "4294967295";
        if none(user) || group.is_some_and(none) {
            return Err(PrivilegeError::Nameless(asked.to_owned()));
        }
        let known = pcaphub_sys::user(user).ok().flatten();
        let number = || user.parse().ok().map(|uid| pcaphub_sys::User { uid, gid: uid });
        let unknown = || PrivilegeError::Unknown(user.to_owned(), "user");
        let mut found = known.or_else(number).ok_or_else(unknown)?;
        if let Some(group) = group {
            let known = pcaphub_sys::group(group).ok().flatten();
            let unknown = || PrivilegeError::Unknown(group.to_owned(), "group");
            found.gid = known.or_else(|| group.parse().ok()).ok_or_else(unknown)?;
        }
        Ok(Identity { name: asked.to_owned(), uid: found.uid, gid: found.gid })
    }

    /// Whether it is root, so that nothing can be given up.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}

/// Becomes `identity` for good, without any capability, unable to get one, to open files beside those
/// that `open_files` lets through, or to leave a core dump. What the kernel does not offer, in words.
///
/// # Errors
/// The first step that the system refuses, or that it says it took and did not.
pub fn give_up(identity: &Identity) -> Result<Vec<String>, PrivilegeError> {
    let mut missing = Vec::new();
    empty_the_bounding_set(&mut missing);
    step("clearing the ambient capabilities", rustix::thread::clear_ambient_capability_set())?;
    step("not keeping capabilities", rustix::thread::set_keep_capabilities(false))?;
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    step("leaving all groups", rustix::thread::set_thread_groups(&[]))?;
    step(&format!("group {gid}", gid = identity.gid), rustix::thread::set_thread_res_gid(gid, gid, gid))?;
    step(&format!("becoming {}", identity.name), rustix::thread::set_thread_res_uid(uid, uid, uid))?;
    step("no capabilities", rustix::thread::set_capabilities(None, NONE))?;
    step("no new privileges", rustix::thread::set_no_new_privs(true))?;
    // Becoming another user made it so already, on most systems; it holds also against others of that user.
    step("no core dumps", keep_secrets())?;
    missing.extend(open_files());
    verify(identity)?;
    Ok(missing)
}

/// From now on the process leaves no core dump, and others of its user cannot look into it: what it has in
/// memory, keys included, stays there. For whoever loads a secret; it needs no right.
///
/// # Errors
/// Of the system.
pub fn keep_secrets() -> rustix::io::Result<()> {
    rustix::process::setrlimit(Resource::Core, NO_CORE)?;
    // Where dumps go through a pipe, to a service, the limit does not hold.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

const NO_CORE: Rlimit = Rlimit { current: Some(0), maximum: Some(0) };
const NONE: CapabilitySets = CapabilitySets {
    effective: CapabilitySet::empty(),
    permitted: CapabilitySet::empty(),
    inheritable: CapabilitySet::empty(),
};

fn step<T>(step: &str, done: rustix::io::Result<T>) -> Result<(), PrivilegeError> {
    let refused = |errno| PrivilegeError::Refused {
        step: step.to_owned(),
        why: std::io::Error::from(errno).to_string(),
    };
    done.map(drop).map_err(refused)
}

/// Without any, and without new privileges, nothing that is run could get one; so a system that keeps
/// this from us loses a second lock, and not the first.
fn empty_the_bounding_set(missing: &mut Vec<String>) {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // There are no more.
            Err(rustix::io::Errno::INVAL) => return,
            Err(why) => {
                missing.push(format!("the bounding set of capabilities stays as it is: {why}"));
                return;
            }
        }
    }
}

/// What the system says now, and whether there is a way back.
fn verify(identity: &Identity) -> Result<(), PrivilegeError> {
    let failed = |why: &str| PrivilegeError::Refused { step: "looking at it".into(), why: why.into() };
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    let ids = [rustix::process::getuid(), rustix::process::geteuid()];
    let groups = [rustix::process::getgid(), rustix::process::getegid()];
    if ids != [uid; 2]
        || groups != [gid; 2]
        || rustix::process::getgroups().is_ok_and(|list| !list.is_empty())
    {
        return Err(failed("the user or group is not what was asked for"));
    }
    let none = rustix::thread::capabilities(None)
        .is_ok_and(|sets| (sets.effective | sets.permitted | sets.inheritable).is_empty());
    if !none {
        return Err(failed("capabilities are left"));
    }
    if !identity.is_root() && rustix::thread::set_thread_res_uid(None, Uid::ROOT, None).is_ok() {
        return Err(failed("root can be had again"));
    }
    Ok(())
}

/// What name look-ups, libpcap, certificates of the system and the clock's zone read, wherever a
/// distribution keeps it. Everything else that pcaphub opens, it opens through its helper.
///
/// /etc as a whole: its files are replaced by new ones while we run (resolv.conf with every network),
/// and a rule is for what there was. What in it is secret, the user must not read anyway.
const READABLE: &[&str] = &[
    "/etc",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/lib32",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    "/run/nscd",
    "/nix/store",
    // How many processors there are, and may be used.
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/proc/self",
    "/dev/urandom",
    "/dev/null",
];

/// Closes all other files to this thread and those that it starts, to be opened anew in any way, by
/// Landlock; and lets signals through to this process alone. What the kernel lacks for it, in words.
fn open_files() -> Option<String> {
    // Connecting to a socket's name (ABI 9) stays open: look-ups of names go to those of the system.
    let abi = ABI::V7;
    let files = ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(|name| std::env::var_os(name).map(PathBuf::from));
    let readable = READABLE.iter().map(PathBuf::from).chain(files.into_iter().flatten());
    // The service manager of some containers hears us at such a socket.
    let notified = std::env::var_os("NOTIFY_SOCKET");
    let abstract_socket = notified.is_some_and(|name| name.as_encoded_bytes().starts_with(b"@"));
    let scopes: BitFlags<Scope> =
        if abstract_socket { Scope::Signal.into() } else { Scope::Signal | Scope::AbstractUnixSocket };
    let restricted = || {
        let ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .scope(scopes)?;
        let mut ruleset = ruleset.create()?;
        for path in readable {
            let Ok(descriptor) = PathFd::new(&path) else { continue };
            let access = match path.is_dir() {
                true => AccessFs::ReadFile | AccessFs::ReadDir,
                false => AccessFs::ReadFile.into(),
            };
            ruleset = ruleset.add_rule(PathBeneath::new(descriptor, access))?;
        }
        ruleset.restrict_self()
    };
    match restricted() {
        Ok(status) => match status.ruleset {
            RulesetStatus::FullyEnforced => None,
            RulesetStatus::PartiallyEnforced => {
                Some("the kernel's Landlock is an older one, and limits less".into())
            }
            RulesetStatus::NotEnforced => {
                Some("the kernel has no Landlock: files are limited by the user alone".into())
            }
        },
        Err(error) => Some(format!("Landlock does not work here: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_name_or_a_number_with_a_group_if_need_be() {
        let find = |text| Identity::find(Some(text)).map(|found| (found.uid, found.gid));
        assert_eq!(find("root"), Ok((0, 0)));
        assert_eq!(find("12345"), Ok((12345, 12345)));
        assert_eq!(find("12345:root"), Ok((12345, 0)));
        assert_eq!(find("root:77"), Ok((0, 77)));
        let unknown = find("no-such-user").unwrap_err().to_string();
        assert!(
            unknown.contains("there is no such user; make it (`useradd --system no-such-user`)"),
            "{unknown}"
        );
        assert!(find("root:no-such-group").unwrap_err().to_string().contains("no such group"));
        assert!(!Identity::find(None).unwrap().is_root());
    }
}
