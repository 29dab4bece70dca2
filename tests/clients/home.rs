//! The programs of a node.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use perpacket_lab::Node;

/// A node whose programs end, at the latest, when this is dropped.
pub(crate) struct Home(Node);

impl Home {
    pub(crate) fn of(node: &Node) -> Self {
        Self(node.clone())
    }

    /// The programs in the node, by their process id. This process is in none.
    pub(crate) fn inhabitants(&self) -> Vec<i32> {
        let Ok(namespace) = self.0.namespace_id() else {
            return Vec::new();
        };
        // A program may end while it is looked at.
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|id: &i32| {
                fs::metadata(format!("/proc/{id}/ns/net"))
                    .is_ok_and(|program| program.ino() == namespace)
            })
            .collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for id in self.inhabitants() {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}
