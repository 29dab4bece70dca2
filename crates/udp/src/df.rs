/// What a socket does about fragmentation: `IP_MTU_DISCOVER` and `IPV6_MTU_DISCOVER` of `ip(7)` and
/// `ipv6(7)`.
///
/// | mode | DF of what fits | above the interface's MTU | above the path MTU that the kernel knows |
/// |---|---|---|---|
/// | `Dont` | 0 | fragments | fragments |
/// | `Want` | 1 | fragments | fragments, DF 0 |
/// | `Do` | 1 | `EMSGSIZE` | `EMSGSIZE` |
/// | `Probe` | 1 | `EMSGSIZE` | sent whole, DF 1 |
/// | `Interface` | 0 | `EMSGSIZE` | sent whole, DF 0 |
/// | `Omit` | 0 | fragments | sent whole, DF 0 |
///
/// The path MTU that the kernel knows comes from ICMP messages, which anyone on the way can forge:
/// one that says 300 makes `Want` fragment and `Do` refuse for ten minutes. `Probe`, `Interface` and
/// `Omit` do not listen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DfMode {
    /// Fragment where needed, DF 0.
    Dont,
    /// The kernel's default: DF 1 where it fits, fragments otherwise.
    Want,
    /// DF 1, and the kernel refuses what is above the path MTU that it knows.
    Do,
    /// DF 1, whatever path MTU the kernel knows.
    Probe,
    /// DF 0, never fragmented here, whatever path MTU the kernel knows.
    Interface,
    /// DF 0, whatever path MTU the kernel knows.
    Omit,
}
