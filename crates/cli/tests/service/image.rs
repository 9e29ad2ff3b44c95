//! The root of the container image. No container engine is needed for it: chroot(1) shows what is in there.

use std::path::Path;
use std::process::Command;

use super::harness::{folder, has};

#[test]
fn the_image_has_all_that_the_program_needs_and_no_shell() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: chroot needs root");
        return;
    }
    if !has("chroot") {
        return;
    }
    let folder = folder();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = folder.path().join("image");
    let script = repository.join("packaging/image/root");
    let made = Command::new(script).arg(&root).arg(env!("CARGO_BIN_EXE_pcaphub")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let inside = |arguments: &[&str]| {
        let mut command = Command::new("chroot");
        command.arg("--userspec=65532:65532").arg(&root).arg("/usr/bin/pcaphub").args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    inside(&["--version"]);
    // A filter is what libpcap is there for.
    let said = inside(&["pipe", "demo:", "-c", "10", "-f", "udp port 53", "--to", "null:"]);
    assert!(said.contains("10 packets delivered"), "{said}");
    assert!(!root.join("bin/sh").exists() && !root.join("usr/bin/sh").exists());
}
