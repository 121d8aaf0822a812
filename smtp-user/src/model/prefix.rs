//! Prefixes of addresses, as people write them.

use ipnet::IpNet;

/// A prefix such as `192.0.2.0/24` or `2001:db8::/32`.
pub fn parse(text: &str) -> Result<IpNet, String> {
    let prefix: IpNet = text.parse().map_err(|_| {
        let mut error =
            format!("{text:?} is no prefix: expected one such as 192.0.2.0/24 or 2001:db8::/32");
        if let Ok(address) = text.parse::<std::net::IpAddr>() {
            error = format!(
                "{text:?} is an address without a length; for this host alone write {}",
                IpNet::from(address)
            );
        }
        error
    })?;
    check(prefix)?;
    Ok(prefix)
}

/// Whether a prefix is one as people should write it: no bits behind its length, and no IPv4 as IPv6.
pub fn check(prefix: IpNet) -> Result<(), String> {
    if prefix.trunc() != prefix {
        return Err(format!(
            "{prefix} has bits set behind its length; write {} for the network, or {} for the host",
            prefix.trunc(),
            IpNet::from(prefix.addr())
        ));
    }
    if let IpNet::V6(v6) = prefix
        && v6.addr().to_ipv4_mapped().is_some()
    {
        return Err(format!(
            "{prefix} is IPv4 written as IPv6; write the IPv4 prefix"
        ));
    }
    Ok(())
}

/// A prefix as people read it: one address without its length.
pub fn show(prefix: &IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() {
        prefix.addr().to_string()
    } else {
        prefix.to_string()
    }
}
