//! Moving the process into a network of its own.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use crate::error::{Error, Result};
use crate::{netlink, sysctl};

static ENTERED: AtomicBool = AtomicBool::new(false);

/// Moves the process into network and mount namespaces of its own and brings `lo` up there, so that
/// nothing that follows can touch the machine's network. Call it first thing in `main`.
///
/// With `CAP_SYS_ADMIN` that is all. Without, the process also gets a user namespace of its own, in
/// which it is root over its networks and an ordinary user over everything else
/// (`user_namespaces(7)`); programs it starts see themselves as uid 0 there.
///
/// A second call does nothing.
///
/// # Errors
/// [`Error::Threads`] when there is more than one thread; [`Error::Refused`], with advice, when this
/// machine does not let an ordinary user have namespaces.
pub fn enter() -> Result<()> {
    if ENTERED.load(Ordering::Acquire) {
        return Ok(());
    }
    let threads = fs::read_dir("/proc/self/task")
        .map_err(|e| Error::system("list /proc/self/task", e))?
        .count();
    if threads != 1 {
        return Err(Error::Threads { threads });
    }

    let networks = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    match unshare(networks) {
        Ok(()) => {}
        Err(Errno::EPERM) => become_root_of_a_user_namespace(networks)?,
        Err(e) => return Err(refused("unshare of network and mount namespace", e.into())),
    }
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .map_err(|e| refused("making the mounts private", e.into()))?;

    sysctl::set_lab_defaults()?;
    netlink::bring_up("lo")?;
    netlink::cut_segments("lo")?;
    ENTERED.store(true, Ordering::Release);
    Ok(())
}

fn become_root_of_a_user_namespace(networks: CloneFlags) -> Result<()> {
    // Read before: inside the new namespace, and until the maps are written, both read as "nobody".
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | networks)
        .map_err(|e| refused("unshare of user, network and mount namespace", e.into()))?;
    // user_namespaces(7): an unprivileged process may write gid_map only after "deny".
    for (file, content) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), content)
            .map_err(|e| refused(&format!("writing /proc/self/{file}"), e))?;
    }
    Ok(())
}

fn refused(operation: &str, source: io::Error) -> Error {
    Error::Refused {
        operation: operation.to_owned(),
        advice: advice(),
        source,
    }
}

/// The switches by which distributions forbid user namespaces, and what each says here.
fn advice() -> String {
    let switches = [
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ("user.max_user_namespaces", "0", "10000"),
    ];
    let commands: Vec<_> = switches
        .into_iter()
        .filter(|(name, bad, _)| sysctl::read(name).is_ok_and(|value| value == *bad))
        .map(|(name, _, good)| format!("`sysctl -w {name}={good}`"))
        .collect();
    if commands.is_empty() {
        "run as root, or allow unprivileged user namespaces (in a container: --privileged, or \
         --cap-add SYS_ADMIN --cap-add NET_ADMIN and a seccomp profile that permits unshare)"
            .to_owned()
    } else {
        format!("run as root, or as root {}", commands.join(" and "))
    }
}
