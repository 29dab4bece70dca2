//! The `Link` headers in which an endpoint names its STUN servers (RFC 9725 §4.6, RFC 8288 §3).

/// The URLs of STUN servers among the links of one header. TURN servers are left out: what goes
/// through them takes another path, and no socket of this program's own.
pub(super) fn stun_servers(header: &str) -> Vec<String> {
    split(header, ',')
        .into_iter()
        .filter_map(|link| {
            let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
            let is_ice_server = split(parameters, ';').into_iter().any(|parameter| {
                let parts = parameter.split_once('=');
                parts.is_some_and(|(name, value)| {
                    let value = value.trim().trim_matches('"');
                    let mut relations = value.split_ascii_whitespace();
                    name.trim().eq_ignore_ascii_case("rel")
                        && relations.any(|one| one.eq_ignore_ascii_case("ice-server"))
                })
            });
            let scheme = target.split(':').next().unwrap_or_default();
            (is_ice_server && scheme.eq_ignore_ascii_case("stun")).then(|| target.to_owned())
        })
        .collect()
}

/// The parts between separators that stand neither in quotes nor in angle brackets.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped, mut target) = (false, false, false);
    text.split(move |c| {
        let is_escaped = std::mem::take(&mut escaped);
        match c {
            '\\' if quoted && !is_escaped => escaped = true,
            '"' if !target && !is_escaped => quoted = !quoted,
            '<' if !quoted => target = true,
            '>' if !quoted => target = false,
            _ => return c == separator && !quoted && !target,
        }
        false
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stun_servers_are_found_among_others() {
        let header = r#"<stun:a.example:3478>; rel="ice-server", <turn:b.example?transport=udp>; rel="ice-server"; username="a,\"<b>;"; credential="c", <stun:c.example>; rel=next, <STUN:d.example>; x="1"; rel="other ice-server""#;
        assert_eq!(
            stun_servers(header),
            ["stun:a.example:3478", "STUN:d.example"]
        );
    }

    #[test]
    fn what_is_no_link_is_none() {
        for header in [
            "",
            "<",
            ">",
            "<stun:a",
            "stun:a; rel=ice-server",
            "\"",
            "<>;rel=\"ice-server",
        ] {
            assert!(stun_servers(header).is_empty(), "{header}");
        }
    }
}
