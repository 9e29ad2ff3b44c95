//! Makes an authority, and what it issues.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail};
use pcaphub::endpoint::DEFAULT_PORT;
use pcaphub::escape::escaped;
use pcaphub::opener::System;
use pcaphub::tls::{self, Certificate};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};

use super::output::{Output, check_distinct, write_all};

/// Certificates to make.
pub(crate) struct New {
    pub(super) folder: PathBuf,
    /// Names and addresses of the server; none: those of this machine.
    pub(super) names: Vec<String>,
    pub(super) clients: Vec<String>,
    pub(super) days: u32,
    pub(super) ca_days: u32,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An authority that can issue.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    not_after: SystemTime,
    is_new: bool,
}

impl New {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes everything, then writes it: a name that cannot be, or a file that is there, leaves nothing half done.
    pub(super) fn make(&self) -> Result<String> {
        let mut outputs = Vec::new();
        let authority = self.authority(&mut outputs)?;
        let has_server = self.path("server.pem").exists();
        let wants_server = !has_server || !self.names.is_empty();
        let names = match (has_server, self.names.is_empty()) {
            (_, false) => self.names.clone(),
            (true, true) => self.names_of_server(),
            (false, true) => names_of_this_machine(),
        };
        if let Some(wrong) = self.names.iter().find(|name| !tls::is_name(name)) {
            bail!("--name {wrong:?}: a server has names such as hub.example.org, *.example.org or 192.0.2.7");
        }
        if wants_server {
            self.issue(&authority, "server", &names, ExtendedKeyUsagePurpose::ServerAuth, &mut outputs)?;
        }
        let clients = match self.clients.is_empty() && authority.is_new {
            true => vec!["client".to_owned()],
            false => self.clients.clone(),
        };
        for client in &clients {
            check_client(client)?;
            let (name, usage) = (format!("client-{client}"), ExtendedKeyUsagePurpose::ClientAuth);
            self.issue(&authority, &name, std::slice::from_ref(client), usage, &mut outputs)?;
        }
        if outputs.is_empty() {
            bail!(
                "{} has an authority and a server's certificate already; --client NAME adds a client. To replace \
                 the server's, move server.pem and server-key.pem away first",
                self.folder.display()
            );
        }
        if let Some(there) = outputs.iter().find(|output| output.path.symlink_metadata().is_ok()) {
            bail!(
                "{} is there already, and nothing is overwritten: move it away, or choose another name or directory",
                there.path.display()
            );
        }
        check_distinct(&outputs)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|error| anyhow!("cannot make the directory {}: {error}", self.folder.display()))?;
        // The sticky bit keeps others from what is not theirs.
        let mode = self.folder.metadata()?.mode();
        if mode & 0o002 != 0 && mode & 0o1000 == 0 {
            bail!(
                "{0} can be written by everybody, who could put other keys there: chmod o-w {0}",
                self.folder.display()
            );
        }
        write_all(&outputs)?;
        Ok(self.told(&outputs, &names, &clients))
    }

    /// Those that its certificate has already.
    fn names_of_server(&self) -> Vec<String> {
        let certificates = tls::certificates(&System, &self.path("server.pem")).unwrap_or_default();
        certificates.first().and_then(|der| Certificate::read(der)).map_or_else(Vec::new, |read| read.names)
    }

    fn authority(&self, outputs: &mut Vec<Output>) -> Result<Authority> {
        let (cert, key) = (self.path("ca.pem"), self.path("ca-key.pem"));
        if !cert.exists() && !key.exists() {
            let signing_key = KeyPair::generate()?;
            let mut params = CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            // A name of its own, by its key: with two of one name, errors would be hard to understand.
            let mark: String = signing_key
                .public_key_raw()
                .iter()
                .rev()
                .take(4)
                .map(|octet| format!("{octet:02x}"))
                .collect();
            let name = format!("pcaphub CA {mark} of {}", host_name());
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let not_after = self.validity(&mut params, self.ca_days, None);
            outputs.push(Output::certificate(cert, params.self_signed(&signing_key)?.pem()));
            outputs.push(Output::key(key, &signing_key));
            return Ok(Authority { issuer: Issuer::new(params, signing_key), not_after, is_new: true });
        }
        let read = |path: &Path| {
            std::fs::read_to_string(path).with_context(|| {
                format!("{}: ca.pem and ca-key.pem belong together, and one cannot be read", path.display())
            })
        };
        let (pem, key) = (read(&cert)?, KeyPair::from_pem(&read(&key)?).context("ca-key.pem: not a key")?);
        let first = tls::certificates(&System, &cert)?.into_iter().next();
        let said = first.and_then(|der| Certificate::read(&der)).context("ca.pem: it cannot be read")?;
        if !said.is_of(&key.subject_public_key_info()) {
            bail!(
                "{} is not the key of ca.pem: what it issued would be worth nothing; put the right one there, or \
                 choose another directory",
                self.path("ca-key.pem").display()
            );
        }
        if SystemTime::now() > said.not_after {
            bail!("{}: this authority has expired on {}; make another one", cert.display(), said.expires);
        }
        let issuer = Issuer::from_ca_cert_pem(&pem, key).context("ca.pem: not an authority's certificate")?;
        Ok(Authority { issuer, not_after: said.not_after, is_new: false })
    }

    fn issue(
        &self,
        authority: &Authority,
        file: &str,
        names: &[String],
        usage: ExtendedKeyUsagePurpose,
        outputs: &mut Vec<Output>,
    ) -> Result<()> {
        let signing_key = KeyPair::generate()?;
        let is_server = usage == ExtendedKeyUsagePurpose::ServerAuth;
        let alternative = if is_server { names.to_vec() } else { Vec::new() };
        let mut params = CertificateParams::new(alternative)
            .with_context(|| format!("{}: not names that a certificate can have", names.join(", ")))?;
        let common = names.first().cloned().unwrap_or_default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        self.validity(&mut params, self.days, Some(authority.not_after));
        let certificate = params.signed_by(&signing_key, &authority.issuer)?;
        outputs.push(Output::certificate(self.path(&format!("{file}.pem")), certificate.pem()));
        outputs.push(Output::key(self.path(&format!("{file}-key.pem")), &signing_key));
        Ok(())
    }

    /// From a day ago, as clocks differ, and not longer than its authority.
    fn validity(&self, params: &mut CertificateParams, days: u32, most: Option<SystemTime>) -> SystemTime {
        let now = SystemTime::now();
        let end = now + DAY * days;
        let end = most.map_or(end, |most| most.min(end));
        params.not_before = (now - DAY).into();
        params.not_after = end.into();
        end
    }

    /// What was made, and what to type on either side.
    fn told(&self, outputs: &[Output], names: &[String], clients: &[String]) -> String {
        let folder = std::path::absolute(&self.folder).unwrap_or_else(|_| self.folder.clone());
        let here = |file: &str| quoted(&folder.join(file).display().to_string());
        let mut text = String::from("Made:\n");
        for output in outputs {
            text += &format!("  {}\n", escaped(&output.path.display().to_string(), usize::MAX));
        }
        let host = names.iter().find(|name| !is_local(name)).or(names.first()).map_or("HOST", String::as_str);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let with_clients =
            if clients.is_empty() { String::new() } else { format!(" --opt client-ca={}", here("ca.pem")) };
        text += &format!(
            "Keep the files that end in -key.pem to yourself; ca-key.pem can issue more, so keep it off the hub.\n\n\
             Where packets are served, with whatever source it is:\n  \
             pcaphub serve capture.pcap --listen tls-listen://0.0.0.0:{DEFAULT_PORT} \\\n      \
             --opt cert={} --opt key={}{with_clients}\n",
            here("server.pem"),
            here("server-key.pem"),
        );
        for client in clients {
            let (cert, key) = (format!("client-{client}.pem"), format!("client-{client}-key.pem"));
            text += &format!(
                "\nWhere {client} reads them, with ca.pem, {cert} and {key} copied there:\n  \
                 pcaphub cat 'tls://{host}:{DEFAULT_PORT}?ca=ca.pem&cert={cert}&key={key}' | tshark -r -\n  \
                 socat -u openssl-connect:{host}:{DEFAULT_PORT},cafile=ca.pem,cert={cert},key={key} - | tshark -r -\n"
            );
        }
        if !clients.is_empty() {
            text += "\nWithout client-ca= anybody may connect, and needs ca.pem alone.\n";
        }
        text
    }
}

/// A client's name is a part of a file's name.
fn check_client(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
        bail!("--client {name:?}: a name has letters, digits and . _ - @, 64 at most");
    }
    Ok(())
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
    if name.is_empty() || !name.chars().all(fits) { "localhost".into() } else { name }
}

fn names_of_this_machine() -> Vec<String> {
    let mut names = vec![host_name(), "localhost".into(), "127.0.0.1".into(), "::1".into()];
    names.dedup();
    names
}

fn is_local(name: &str) -> bool {
    ["localhost", "127.0.0.1", "::1"].contains(&name)
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-@:+,".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}
