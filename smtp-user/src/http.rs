//! Answers in HTTP/1.1 (RFC 9112), as our own clients take them apart.

/// Status, lines of the head behind the first one, and the rest of an answer in HTTP/1.1.
pub(crate) fn split(
    answer: &[u8],
) -> Result<(u16, std::str::Split<'_, &'static str>, &[u8]), &'static str> {
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .ok_or("the answer breaks off in its head")?;
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| "this is not HTTP")?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1."))
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .ok_or("this is not HTTP")?;
    Ok((status, lines, &answer[end + 4..]))
}
