//! The settings' tests: what is accepted, what is refused and with which words.

use super::*;

fn checked(text: &str) -> Result<Settings, String> {
    let settings: Settings = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let checked = settings.check();
    checked.map_err(|(key, error)| format!("{key}: {error}"))?;
    Ok(settings)
}

const V3: &str = "order = [\"routers\"]\n[[router]]\nname = \"a\"\naddress = \"[::1]:161\"\nversion = \"3\"\n\
    user = \"u\"\nauth = \"sha256\"\nauth_file = \"/a\"\nprivacy = \"aes256\"\nprivacy_file = \"/p\"\n";

#[test]
fn nothing_is_asked_by_default_and_what_is_written_is_read_back() {
    let settings = checked("").expect("the default");
    assert!(!settings.enabled());
    let settings = checked(V3).expect("good");
    assert_eq!(settings.router[0].table, Table::Auto);
    let text = toml::to_string(&settings).expect("a form in TOML");
    assert_eq!(checked(&text).expect("the same"), settings);
    // The keys before the tables, so that the example stands in the section.
    let example = ROUTER_EXAMPLE
        .replace("# ", "")
        .replace("[[owner.router]]", "[[router]]");
    let example: String = example
        .lines()
        .skip(1)
        .filter(|line| {
            !line.starts_with("user") && !line.starts_with("auth") && !line.starts_with("privacy")
        })
        .map(|line| format!("{}\n", line.split("   ").next().unwrap_or_default()))
        .collect();
    assert!(
        checked(&example).is_ok(),
        "{:?} of {example}",
        checked(&example)
    );
}

#[test]
fn what_does_not_fit_together_is_told() {
    for (text, expected) in [
        (
            "order = [\"contacts\"]",
            "owner.order: \"contacts\" needs owner.contacts",
        ),
        (
            "order = [\"kernel\", \"kernel\"]",
            "owner.order: \"kernel\" is named twice",
        ),
        ("order = [\"oracle\"]", "unknown variant `oracle`"),
        (
            "timeout = \"2h\"",
            "owner.timeout: 2h is out of range: expected 1s to 1m",
        ),
        (
            "whois = [\"whois.example\"]",
            "\"whois.example\" is no server",
        ),
        ("whois = [\"a b:43\"]", "\"a b:43\" is no server"),
        (
            &V3.replace("sha256", "sha1"),
            "owner.router: \"a\": aes256 needs auth sha256",
        ),
        (
            &V3.replace("user = \"u\"\n", ""),
            "owner.router: \"a\": version 3 needs a user",
        ),
        (
            &V3.replace("auth_file = \"/a\"\n", ""),
            "owner.router: \"a\": version 3 needs auth and",
        ),
        (
            &V3.replace("\"3\"", "\"2c\""),
            "owner.router: \"a\": version 2c needs community_file",
        ),
        (&V3.replace("\"3\"", "\"1\""), "unknown variant `1`"),
    ] {
        let error = checked(text).expect_err(expected);
        assert!(error.starts_with(expected), "{error:?} for {expected:?}");
    }
}
