//! Settings under `/proc/sys`; those under `net/` are the calling thread's network namespace's own.

use std::fs;
use std::io;

use crate::error::{Error, Result};

/// What every namespace of the lab starts with.
const LAB_DEFAULTS: [(&str, &str); 8] = [
    // Duplicate address detection would keep an IPv6 address unusable for a second.
    ("net.ipv6.conf.all.accept_dad", "0"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    // As on IPv4, an address survives a link that goes down and comes back.
    ("net.ipv6.conf.all.keep_addr_on_down", "1"),
    ("net.ipv6.conf.default.keep_addr_on_down", "1"),
    // IPv4 settings are inherited from the machine (net.core.devconf_inherit_init_net).
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    // Routers answer every probe, or tests of hop errors would depend on their pace.
    ("net.ipv4.icmp_ratelimit", "0"),
    ("net.ipv6.icmp.ratelimit", "0"),
];

/// The same, where the kernel keeps these per namespace; before, they hold for the machine.
const LAB_DEFAULTS_IF_THERE: [(&str, &str); 2] = [
    ("net.ipv4.icmp_msgs_per_sec", "1000000"),
    ("net.ipv4.icmp_msgs_burst", "1000000"),
];

/// Applies them to the calling thread's network namespace.
pub(crate) fn set_lab_defaults() -> Result<()> {
    for (name, value) in LAB_DEFAULTS {
        write(name, value)?;
    }
    for (name, value) in LAB_DEFAULTS_IF_THERE {
        // Not there, or not ours to write.
        let _ = write(name, value);
    }
    Ok(())
}

/// Makes the calling thread's network namespace forward, IPv4 and IPv6.
pub(crate) fn forward() -> Result<()> {
    write("net.ipv4.ip_forward", "1")?;
    write("net.ipv6.conf.all.forwarding", "1")
}

pub(crate) fn write(name: &str, value: &str) -> Result<()> {
    fs::write(path(name), value).map_err(|e| Error::system(format!("sysctl {name}={value}"), e))
}

pub(crate) fn read(name: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path(name))?.trim().to_owned())
}

fn path(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}
