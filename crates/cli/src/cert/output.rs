//! Files of certificates and keys: new ones, and all of them or none.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::{Result, anyhow, bail};
use rcgen::KeyPair;

/// A file that is to be written.
pub(super) struct Output {
    pub(super) path: PathBuf,
    text: String,
    mode: u32,
}

impl Output {
    pub(super) fn certificate(path: PathBuf, text: String) -> Self {
        Output { path, text, mode: 0o644 }
    }

    pub(super) fn key(path: PathBuf, key: &KeyPair) -> Self {
        Output { path, text: key.serialize_pem(), mode: 0o600 }
    }

    /// Leaves no part of it where it fails.
    fn write(&self) -> Result<()> {
        let explained = |error: std::io::Error| anyhow!("cannot write {}: {error}", self.path.display());
        let options = OpenOptions::new().write(true).create_new(true).mode(self.mode).clone();
        let mut file = options.open(&self.path).map_err(explained)?;
        let written = file.write_all(self.text.as_bytes()).and_then(|()| file.sync_all());
        written.inspect_err(|_| self.remove()).map_err(explained)
    }

    fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Writes all of them, or leaves none.
pub(super) fn write_all(outputs: &[Output]) -> Result<()> {
    for (written, output) in outputs.iter().enumerate() {
        if let Err(error) = output.write() {
            outputs.iter().take(written).for_each(Output::remove);
            return Err(error);
        }
    }
    Ok(())
}

/// Clients of one name, and a client called `x-key` beside `x`, would share a file.
pub(super) fn check_distinct(outputs: &[Output]) -> Result<()> {
    let mut paths = HashSet::new();
    if let Some(twice) = outputs.iter().find(|output| !paths.insert(&output.path)) {
        bail!("{} would be the file of two: give each --client a name of its own", twice.path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_one_file_cannot_be_written_none_is_left_and_the_cause_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let output = |name: &str| Output::certificate(folder.path().join(name), "text".into());
        let error = write_all(&[output("a.pem"), output("missing/b.pem")]).unwrap_err().to_string();
        assert!(error.contains("missing/b.pem: No such file"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
