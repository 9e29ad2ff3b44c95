//! The units that are shipped, judged by systemd.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::harness::{folder, has, run};

/// The folder of the units.
fn units() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd")
}

fn analyze(arguments: &[&str], units: &[PathBuf]) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(arguments).args(units).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !has("systemd-analyze") {
        return;
    }
    let folder = folder();
    let copy = |name: &str| {
        let text = std::fs::read_to_string(units().join(name)).unwrap();
        // Its program must be there; the package has it where every unit looks for it.
        let mut started = text.lines().filter(|line| line.starts_with("ExecStart="));
        assert!(started.all(|line| line.starts_with("ExecStart=/usr/bin/pcaphub ")), "{name}: {text}");
        let pcaphub = env!("CARGO_BIN_EXE_pcaphub");
        let text = text.replace("/usr/bin/pcaphub", pcaphub);
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let units = ["pcaphub.service", "pcaphub.socket", "pcaphub-replay.service"].map(copy);
    let (fine, said) = analyze(&["verify", "--man=no"], &units);
    assert!(fine, "{said}");
    assert_eq!(said.trim(), "");
}

#[test]
fn the_service_is_exposed_less_than_two() {
    if !has("systemd-analyze") {
        return;
    }
    let (fine, said) = analyze(
        &["security", "--offline=true", "--threshold=19", "--no-pager"],
        &[units().join("pcaphub.service")],
    );
    let level = said.lines().rfind(|line| line.contains("exposure level")).unwrap_or_default();
    println!("{level}");
    assert!(fine, "{said}");
}

/// What systemd must not find if the figure is to mean anything.
#[test]
fn the_hardening_is_what_the_documentation_says() {
    let unit = std::fs::read_to_string(units().join("pcaphub.service")).unwrap();
    for line in [
        "Type=notify",
        "WatchdogSec=30s",
        "User=pcaphub",
        "AmbientCapabilities=CAP_NET_RAW",
        "CapabilityBoundingSet=CAP_NET_RAW",
        "ProtectSystem=strict",
        "MemoryDenyWriteExecute=yes",
        "LoadCredential=tls:/etc/pcaphub/tls",
        "SystemCallFilter=@system-service",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK AF_PACKET",
    ] {
        assert!(unit.lines().any(|there| there == line), "{line}");
    }
}

#[test]
fn from_systemd_253_on_the_drop_in_makes_reloads_wait() {
    let drop_in = std::fs::read_to_string(units().join("notify-reload.conf")).unwrap();
    assert!(drop_in.contains("\nType=notify-reload\n") && drop_in.contains("\nExecReload=\n"));
    if !has("systemd-analyze") {
        return;
    }
    let version =
        String::from_utf8(Command::new("systemd-analyze").arg("--version").output().unwrap().stdout);
    let version: u32 = version.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    let folder = folder();
    let unit = std::fs::read_to_string(units().join("pcaphub.service")).unwrap();
    let path = folder.path().join("pcaphub.service");
    std::fs::write(&path, unit.replace("/usr/bin/pcaphub", env!("CARGO_BIN_EXE_pcaphub"))).unwrap();
    let folder = folder.path().join("pcaphub.service.d");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("reload.conf"), drop_in).unwrap();
    let (_, said) = analyze(&["verify", "--man=no"], &[path]);
    // The one thing that older versions have to say, which is why it is not in the unit.
    let old = said.contains("Failed to parse service type, ignoring: notify-reload");
    assert_eq!(old, version < 253, "systemd {version}: {said}");
}

#[test]
fn the_configuration_that_is_shipped_is_right_and_reachable_from_this_machine_alone() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/etc/pcaphub.toml");
    let check = run(&["check", file.to_str().unwrap()], b"");
    let said = String::from_utf8_lossy(&check.stdout);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    assert!(said.ends_with("fine: 1 source, 1 sink\n"), "{said}");
    let text = std::fs::read_to_string(&file).unwrap();
    let endpoints: Vec<_> = text.lines().filter(|line| line.starts_with("endpoint")).collect();
    assert!(endpoints.iter().all(|line| line.contains("tcp-listen://127.0.0.1:")), "{endpoints:?}");
    // Its examples are right as well: each line that is one, without its mark.
    let example = |line: &str| {
        let bare = line.strip_prefix('#').unwrap_or(line);
        if bare.starts_with(['[', '#']) || bare.contains(" = ") { bare.to_owned() } else { String::new() }
    };
    let whole: String = text.lines().map(|line| example(line) + "\n").collect();
    let folder = folder();
    let path = folder.path().join("all.toml");
    std::fs::write(&path, &whole).unwrap();
    let check = run(&["check", path.to_str().unwrap()], b"");
    let errors = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success(), "{errors}\n{whole}");
}
