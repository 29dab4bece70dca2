//! That no crate of the workspace, and so none of the stack, is built on upstream's `Net`.

use std::path::Path;

use anyhow::Result;
use cargo_lock::{Lockfile, Package};

/// The packages that depend directly on this one.
fn dependents<'a>(lock: &'a Lockfile, on: &Package) -> Vec<&'a str> {
    let depends = |p: &&Package| p.dependencies.iter().any(|d| d.matches(on));
    lock.packages
        .iter()
        .filter(depends)
        .map(|p| p.name.as_str())
        .collect()
}

#[test]
fn only_this_crate_depends_on_upstreams() -> Result<()> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lock = Lockfile::load(manifest.join("../../Cargo.lock"))?;
    let utils = lock
        .packages
        .iter()
        .filter(|p| p.name.as_str() == "webrtc-util");
    let (fork, stock): (Vec<_>, Vec<_>) = utils.partition(|p| p.source.is_none());

    // What lies in a folder has no source in a lock file.
    assert_eq!(1, fork.len(), "one fork: {fork:?}");
    assert_eq!(env!("CARGO_PKG_VERSION"), fork[0].version.to_string());
    assert_eq!(1, stock.len(), "one upstream: {stock:?}");
    assert_eq!("0.12.0", stock[0].version.to_string());
    assert_eq!(vec!["webrtc-util"], dependents(&lock, stock[0]));

    let users = dependents(&lock, fork[0]);
    for name in ["webrtc", "webrtc-ice", "turn", "webrtc-mdns", "dtls"] {
        assert!(users.contains(&name), "{name} is on another: {users:?}");
    }
    Ok(())
}
