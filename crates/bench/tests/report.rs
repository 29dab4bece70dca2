//! What the program writes, by running it.

use std::{fs, process::Command};

use serde_json::Value;

const BARS: [&str; 11] = [
    "unbatched",
    "batched-run",
    "batched-fanout",
    "mux-receive",
    "mux-scale",
    "data-channel",
    "fan-out",
    "instructions",
    "lookup",
    "threads",
    "memory",
];

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_perpacket-bench"))
}

#[test]
fn the_report_has_every_bar_and_says_which_were_measured() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report.json");
    let output = program()
        .args(["--quick", "--rounds", "1", "policy", "--json"])
        .arg(&file)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");

    let text = fs::read_to_string(file).expect("it is written");
    let report: Value = serde_json::from_str(&text).expect("it is JSON");
    let bars = report["bars"].as_array().expect("bars");
    let ids: Vec<_> = bars.iter().filter_map(|bar| bar["id"].as_str()).collect();
    assert_eq!(ids, BARS);
    for bar in bars {
        let measured = bar["id"] == "lookup";
        assert_eq!(bar["value"].is_number(), measured, "{bar}");
        assert_eq!(bar["note"].is_string(), !measured, "{bar}");
        assert!(bar["bar"].is_number() && bar["aim"].is_number(), "{bar}");
        if !measured {
            assert_eq!(bar["met"], false, "{bar}");
        }
    }
    let rows = report["rows"].as_array().expect("rows");
    for name in ["policy/100000/busy", "policy/100000/memory"] {
        let row = rows.iter().find(|row| row["name"] == name).expect(name);
        let [min, median, max] = ["min", "median", "max"].map(|field| row[field].as_f64());
        assert!(min > Some(0.0) && min <= median && median <= max, "{row}");
    }
    assert!(report["machine"]["cores"].as_u64() > Some(0));
}

#[test]
fn what_there_is_not_is_refused() {
    let output = program().arg("nothing-like-it").output().expect("it runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("nothing-like-it"), "{said}");
}

#[test]
fn the_list_names_every_kind() {
    let output = program().arg("--list").output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    for name in ["send", "receive", "policy", "threads", "instructions"] {
        let listed = said.lines().any(|line| line.starts_with(name));
        assert!(listed, "{name}: {said}");
    }
}
