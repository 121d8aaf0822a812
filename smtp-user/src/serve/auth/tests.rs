//! Who may read.

use super::*;

const TOKEN: &[u8] = b"0123456789abcdef0123456789abcdef";
const ACT_TOKEN: &[u8] = b"fedcba9876543210fedcba9876543210";
/// `anna:` and the read token in base64.
const READ_LOGIN: &str = "Basic YW5uYTowMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg==";
/// `:` and the act token.
const ACT_LOGIN: &str = "basic OmZlZGNiYTk4NzY1NDMyMTBmZWRjYmE5ODc2NTQzMjEw";

fn options(listen: &str, token: bool) -> Options {
    Options {
        listen: listen.parse().expect("an address"),
        token: token.then(|| Token::new(TOKEN).expect("a good token")),
        act_token: token.then(|| Token::new(ACT_TOKEN).expect("a good token")),
    }
}

fn request(path: &str, headers: &[(&str, &str)]) -> Request {
    let mut builder = Request::builder().uri(path);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(axum::body::Body::empty()).expect("a request")
}

#[test]
fn who_may_read_what() {
    let bearer = format!("Bearer {}", String::from_utf8_lossy(TOKEN));
    let local = "127.0.0.1:12525";
    let all = "0.0.0.0:12525";
    for (listen, token, peer, path, host, authorization, expected) in [
        (local, false, "127.0.0.1", "/", "localhost", None, Ok(())),
        (local, false, "127.0.0.1", "/", "LOCALHOST.", None, Ok(())),
        (local, false, "127.0.0.1", "/", "127.0.0.1", None, Ok(())),
        (local, false, "127.0.0.1", "/", "[::1]", None, Ok(())),
        (
            local,
            false,
            "127.0.0.1",
            "/",
            "evil.example",
            None,
            Err(Denied::Host),
        ),
        (
            local,
            false,
            "127.0.0.1",
            "/healthz",
            "evil.example",
            None,
            Err(Denied::Host),
        ),
        (
            local,
            false,
            "127.0.0.1",
            "/",
            "192.0.2.1",
            None,
            Err(Denied::Host),
        ),
        (
            local,
            false,
            "127.0.0.1",
            "/",
            "localhost.evil.example",
            None,
            Err(Denied::Host),
        ),
        // A token counts only where there is one.
        (
            local,
            false,
            "127.0.0.1",
            "/",
            "evil.example",
            Some(&*bearer),
            Err(Denied::Host),
        ),
        (
            local,
            true,
            "127.0.0.1",
            "/",
            "evil.example",
            Some(&*bearer),
            Ok(()),
        ),
        (all, true, "127.0.0.1", "/", "localhost", None, Ok(())),
        (
            all,
            true,
            "::ffff:127.0.0.1",
            "/",
            "localhost",
            None,
            Ok(()),
        ),
        (
            all,
            true,
            "127.0.0.1",
            "/",
            "evil.example",
            None,
            Err(Denied::Host),
        ),
        (
            all,
            true,
            "192.0.2.7",
            "/",
            "gw.example",
            None,
            Err(Denied::Token),
        ),
        (
            all,
            true,
            "192.0.2.7",
            "/metrics",
            "localhost",
            None,
            Err(Denied::Token),
        ),
        (
            all,
            true,
            "192.0.2.7",
            "/healthz",
            "gw.example",
            None,
            Ok(()),
        ),
        (
            all,
            true,
            "192.0.2.7",
            "/healthz/",
            "gw.example",
            None,
            Err(Denied::Token),
        ),
        (
            all,
            true,
            "192.0.2.7",
            "/",
            "gw.example",
            Some(&*bearer),
            Ok(()),
        ),
        (
            all,
            true,
            "192.0.2.7",
            "/",
            "gw.example",
            Some("bearer 0123456789abcdef0123456789abcdef"),
            Ok(()),
        ),
        (
            all,
            true,
            "192.0.2.7",
            "/",
            "gw.example",
            Some("Bearer 0123456789abcdef0123456789abcdeX"),
            Err(Denied::Token),
        ),
        (
            all,
            true,
            "192.0.2.7",
            "/",
            "gw.example",
            Some("Bearer 0123456789abcdef"),
            Err(Denied::Token),
        ),
        (
            all,
            true,
            "192.0.2.7",
            "/",
            "gw.example",
            Some("Basic 0123456789abcdef0123456789abcdef"),
            Err(Denied::Token),
        ),
        (
            all,
            true,
            "192.0.2.7",
            "/",
            "gw.example",
            Some("Bearer "),
            Err(Denied::Token),
        ),
        (
            all,
            true,
            "192.0.2.7",
            "/",
            "gw.example",
            Some(""),
            Err(Denied::Token),
        ),
        // A login has the token as its password, and the act token reads as well.
        (
            all,
            true,
            "192.0.2.7",
            "/",
            "gw.example",
            Some(READ_LOGIN),
            Ok(()),
        ),
        (
            all,
            true,
            "192.0.2.7",
            "/",
            "gw.example",
            Some(ACT_LOGIN),
            Ok(()),
        ),
        (
            all,
            true,
            "192.0.2.7",
            "/",
            "gw.example",
            Some("Bearer fedcba9876543210fedcba9876543210"),
            Ok(()),
        ),
        // Nobody gets here without a token being configured; if so, nobody reads.
        (
            all,
            false,
            "192.0.2.7",
            "/",
            "gw.example",
            Some("Bearer "),
            Err(Denied::Token),
        ),
    ] {
        let mut headers = vec![("host", host)];
        headers.extend(authorization.map(|value| ("authorization", value)));
        let have = may_read(
            &options(listen, token),
            Some(peer.parse().expect("an address")),
            &request(path, &headers),
        );
        assert_eq!(
            have, expected,
            "{listen} {token} {peer} {path} {host} {authorization:?}"
        );
    }
}

#[test]
fn who_may_change_anything() {
    let reader = format!("Bearer {}", String::from_utf8_lossy(TOKEN));
    let actor = format!("Bearer {}", String::from_utf8_lossy(ACT_TOKEN));
    let may = |host: &str, headers: &[(&str, &str)]| {
        let headers = [&[("host", host)], headers].concat();
        may_change(&options("127.0.0.1:12525", true), &request("/", &headers))
    };
    // No peer has a part in it.
    for (authorization, expected) in [
        (None, Err(Denied::ActToken)),
        (Some("Bearer fedcba9876543210"), Err(Denied::ActToken)),
        (Some(&*reader), Err(Denied::ReadToken)),
        (Some(READ_LOGIN), Err(Denied::ReadToken)),
        (Some(&*actor), Ok(())),
        (Some(ACT_LOGIN), Ok(())),
    ] {
        let headers: Vec<_> = authorization
            .iter()
            .map(|value| ("authorization", *value))
            .collect();
        assert_eq!(may("localhost", &headers), expected, "{authorization:?}");
    }
    for (host, claims, expected) in [
        ("gw.example", &[][..], true),
        ("gw.example", &[("sec-fetch-site", "same-origin")], true),
        ("gw.example", &[("sec-fetch-site", "none")], true),
        ("gw.example", &[("sec-fetch-site", "same-site")], false),
        ("gw.example", &[("sec-fetch-site", "cross-site")], false),
        ("gw.example", &[("sec-fetch-site", "")], false),
        (
            "gw.example",
            &[
                ("sec-fetch-site", "same-origin"),
                ("sec-fetch-site", "cross-site"),
            ],
            false,
        ),
        // Behind a proxy of another name the browser alone knows.
        (
            "127.0.0.1:12525",
            &[
                ("sec-fetch-site", "same-origin"),
                ("origin", "https://gw.example"),
            ],
            true,
        ),
        (
            "gw.example",
            &[
                ("sec-fetch-site", "cross-site"),
                ("origin", "https://gw.example"),
            ],
            false,
        ),
        (
            "gw.example:12525",
            &[("origin", "http://GW.example:12525")],
            true,
        ),
        ("gw.example", &[("origin", "https://gw.example")], true),
        ("gw.example", &[("origin", "https://gw.example:443")], true),
        ("gw.example:80", &[("origin", "http://gw.example")], true),
        (
            "[2001:db8::1]:12525",
            &[("origin", "http://[2001:db8::1]:12525")],
            true,
        ),
        ("gw.example:443", &[("origin", "http://gw.example")], false),
        (
            "gw.example:12525",
            &[("origin", "http://gw.example")],
            false,
        ),
        (
            "gw.example",
            &[("origin", "http://gw.example.evil.example")],
            false,
        ),
        ("gw.example", &[("origin", "http://evil.example")], false),
        ("gw.example", &[("origin", "null")], false),
        ("gw.example", &[("origin", "")], false),
        ("gw.example", &[("origin", "file://gw.example")], false),
        (
            "gw.example",
            &[
                ("origin", "http://gw.example"),
                ("origin", "http://evil.example"),
            ],
            false,
        ),
    ] {
        let headers = [&[("authorization", &*actor)], claims].concat();
        let expected = if expected {
            Ok(())
        } else {
            Err(Denied::Origin)
        };
        assert_eq!(may(host, &headers), expected, "{host} {claims:?}");
    }
    let without = Options {
        act_token: None,
        ..options("127.0.0.1:12525", true)
    };
    for authorization in [&*reader, &*actor] {
        let request = request(
            "/",
            &[("host", "localhost"), ("authorization", authorization)],
        );
        assert_eq!(may_change(&without, &request), Err(Denied::NoActToken));
    }
}

#[test]
fn tokens_are_read_from_either_scheme() {
    for (authorization, expected) in [
        ("Bearer abc", Some("abc")),
        ("BEARER   abc ", Some("abc")),
        ("Basic YTpi", Some("b")),
        ("Basic OmI=", Some("b")),
        ("Basic Og==", Some("")),
        // A password may have colons, a user cannot.
        ("Basic YTpiOmM=", Some("b:c")),
        ("Basic YWI=", None),
        ("Basic YTp", None),
        ("Basic YTp=====", None),
        ("Basic ====", None),
        ("Basic YT*i", None),
        ("Basic", None),
        ("Digest YTpi", None),
        ("", None),
    ] {
        let have = token_in(authorization.as_bytes());
        let have = have.map(|token| String::from_utf8_lossy(&token).into_owned());
        assert_eq!(have.as_deref(), expected, "{authorization:?}");
    }
}

#[test]
fn hosts_are_read_from_target_and_header() {
    let request = |target: &str, version, hosts: &[&str]| {
        let mut builder = Request::builder().uri(target).version(version);
        for host in hosts {
            builder = builder.header(header::HOST, *host);
        }
        Host::of(&builder.body(axum::body::Body::empty()).expect("a request"))
    };
    let named = |name: &str| Host::Named(name.to_owned());
    let new = Version::HTTP_11;
    assert_eq!(request("/", new, &["localhost:8080"]), named("localhost"));
    assert_eq!(request("/", new, &["[::1]:12525"]), named("[::1]"));
    assert_eq!(request("/", new, &[]), Host::Broken);
    assert_eq!(request("/", Version::HTTP_10, &[]), Host::Absent);
    assert_eq!(
        request("/", new, &["localhost", "evil.example"]),
        Host::Broken
    );
    assert_eq!(request("/", new, &["a b"]), Host::Broken);
    assert_eq!(
        request("http://evil.example/", new, &["localhost"]),
        named("evil.example")
    );
}
