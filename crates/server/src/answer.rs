/// An answer without `a=end-of-candidates` (RFC 8840). All candidates are in it anyway, and libdatachannel tells its ICE of
/// the end before it hands it the first of them: if that looks just then, it finds that there will be none, and fails.
pub(crate) fn without_end_of_candidates(answer: &str) -> String {
    let lines = answer.split_inclusive('\n');
    lines
        .filter(|line| line.trim_end() != "a=end-of-candidates")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::without_end_of_candidates as without;

    #[test]
    fn nothing_else_is_left_out() {
        let [start, end] = [
            "v=0\r\nm=audio 9\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n",
            "a=sendrecv\r\nm=video 9\r\n",
        ];
        let answer = [start, "a=end-of-candidates\r\n", end].concat();
        assert_eq!(without(&answer), [start, end].concat());
        assert_eq!(without(&[start, "a=end-of-candidates"].concat()), start);
        assert_eq!(without(start), start);
    }
}
