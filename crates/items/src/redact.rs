//! The only redactor: every message, event, evidence record and log line passes through it.
//!
//! Messages are built from parts that hold no secrets in the first place. The redactor is the
//! second line of defence, for what libraries, servers and users put into their text. It replaces
//! what has the form of a secret and keeps what people need: names, uids, digests, paths. It is
//! idempotent, and a line of JSON stays JSON.

use regex::{Captures, Regex};
use std::{borrow::Cow, sync::LazyLock};

/// The text that replaces a secret.
pub const REDACTED: &str = "[redacted]";

/// Minimum length of a text that is taken for encoded key material by its look alone.
const MIN_ENCODED: usize = 32;

/// Forms of secrets and their replacements, in the order of application: whole blocks before their
/// parts.
static FORMS: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    [
        // PEM, also with escaped line ends; up to the end of the text if the footer was cut off.
        (r"(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[A-Za-z0-9+/=\s\\:,-]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)", "[redacted]"),
        (r#"(?i)(\bauthorization["']?\s*[:=]\s*\\?["']?)(?:(?:bearer|basic|digest|negotiate|aws4-hmac-sha256)\s+)?[^\s"'\\,;]+"#, "${1}[redacted]"),
        (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{16,}", "${1} [redacted]"),
        // Everything before an @ in a URL.
        (r#"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s"'\\]+@"#, "${1}[redacted]@"),
        // `password=…`, `"clientSecret":"…"`, `AWS_SECRET_ACCESS_KEY=…`, `?X-Amz-Signature=…`,
        // `&sig=…`
        (r#"(?i)([A-Za-z0-9_.-]*(?:password|passwd|passphrase|pwd|secret|token|api[_.-]?key|access[_.-]?key|account[_.-]?key|master[_.-]?key|private[_.-]?key|credential|signature)[A-Za-z0-9_.-]*(?:=|\\?["']\s*[:=]\s*)\\?["']?)[^\s"'\\&,;{}\[\]()][^\s"'\\&,;{}()]*"#, "${1}[redacted]"),
        (r#"(?i)([?&;]sig=)[^\s"'\\&,;{}\[\]()][^\s"'\\&,;{}()]*"#, "${1}[redacted]"),
        // `password: …`, as in YAML; not `WrongPassword: …`, which is prose.
        (r#"(?i)(\b(?:[a-z0-9]+[_.-])*(?:password|passwd|passphrase|pwd|token|api[_.-]?key|access[_.-]?key|private[_.-]?key|client[_.-]secret)\s?:\s*\\?["']?)[^\s"'\\&,;{}\[\]()][^\s"'\\&,;{}()]*"#, "${1}[redacted]"),
        // Keys with a known prefix: AWS, GitHub, GitLab, Slack, Google, Stripe, npm.
        (r"\b(?:AKIA|ASIA|AROA|AIDA|AGPA|ANPA|ABIA|ACCA)[A-Z0-9]{16}\b", "[redacted]"),
        (r"\b(?:gh[pousr]_|github_pat_|glpat-|xox[abeprs]-|AIza|ya29\.|sk_live_|rk_live_|npm_)[A-Za-z0-9_.-]{16,}", "[redacted]"),
        // JSON web tokens, such as those of service accounts.
        (r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?", "[redacted]"),
    ]
    .into_iter()
    .filter_map(|(pattern, replacement)| Some((Regex::new(pattern).ok()?, replacement)))
    .collect()
});

/// Candidates for encoded key material.
static ENCODED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"[A-Za-z0-9+/_-]{32,}={0,2}").ok());

/// The text with every recognized secret replaced.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let mut redacted = Cow::Borrowed(text);
    for (form, replacement) in FORMS.iter() {
        if let Cow::Owned(replaced) = form.replace_all(&redacted, *replacement) {
            redacted = Cow::Owned(replaced);
        }
    }
    if let Some(encoded) = ENCODED.as_ref() {
        let replaced = encoded.replace_all(&redacted, |found: &Captures<'_>| {
            let found = &found[0];
            if is_encoded(found) { REDACTED.to_owned() } else { found.to_owned() }
        });
        if let Cow::Owned(replaced) = replaced {
            redacted = Cow::Owned(replaced);
        }
    }
    redacted
}

/// Whether a long word looks like base64 of random bytes, rather than like a name, a path or a
/// digest.
///
/// Random base64 has letters of both cases and digits, and changes between them at six of ten
/// positions. Names and paths hardly ever do; uids and digests have letters of one case only.
fn is_encoded(word: &str) -> bool {
    if word.len() < MIN_ENCODED {
        return false;
    }
    let class = |byte: u8| match byte {
        b'a'..=b'z' => Some(0_u8),
        b'A'..=b'Z' => Some(1),
        b'0'..=b'9' => Some(2),
        _ => None,
    };
    let (mut pairs, mut changes, mut seen) = (0_usize, 0_usize, [false; 3]);
    for pair in word.as_bytes().windows(2) {
        if let (Some(one), Some(other)) = (class(pair[0]), class(pair[1])) {
            pairs += 1;
            changes += usize::from(one != other);
            seen[usize::from(one)] = true;
            seen[usize::from(other)] = true;
        }
    }
    seen == [true; 3] && changes * 10 >= pairs * 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_reads() {
        assert_eq!(FORMS.len(), 10);
        assert!(ENCODED.is_some());
    }

    #[test]
    fn what_people_need_is_kept() {
        for text in [
            "the password does not open the repository at s3://backups/acme at https://s3.example.com:9000",
            "WrongPassword: put the one it was created with into the Secret",
            "core/ConfigMap/kube-root-ca.crt and apps/v1/Deployment/web-frontend-2-with-a-very-long-name-indeed",
            "uid 0b4ee1c5-6c0f-4f4e-9d47-5d7f6b1f2a77 of op-0123456789abcdef0123",
            "snapshot 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
            "image registry.example.com/team/app@sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
            "MutatingAdmissionPolicyBinding.admissionregistration.k8s.io is forbidden: User \"system:serviceaccount:a:b\" cannot list",
            "patch operationruns.tenantatlas.io/status a/b was not answered within 60 s",
            "token Secrets are recreated; basic authentication",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn a_line_of_json_stays_json() {
        let line = r#"{"message":"GET https://u:p@h/x?sig=abc&a=b failed: {\"password\":\"hunter2\",\"n\":1} Authorization: Bearer abc.def","token":"xyz"}"#;
        let redacted = redact(line);
        let value: serde_json::Value = serde_json::from_str(&redacted).expect("still JSON");
        assert_eq!(value["token"], REDACTED);
        for secret in ["hunter2", "u:p", "abc", "xyz"] {
            assert!(!redacted.contains(secret), "{secret} in {redacted}");
        }
    }

    /// A secret in context, as servers and libraries write it.
    fn wrapped(secret: &str, form: usize) -> (String, String) {
        let text = match form {
            0 => format!("Authorization: Bearer {secret}"),
            1 => format!("dial https://admin:{secret}@db.example.com:5432/x failed"),
            2 => format!("env DB_PASSWORD={secret} is wrong"),
            3 => format!(r#"{{"clientSecret":"{secret}","a":1}}"#),
            4 => format!("GET /b/o?X-Amz-Signature={secret}&x=1: 403"),
            5 => format!("https://a.blob.example.com/c?sv=2024&sig={secret}"),
            6 => format!("password: {secret}"),
            _ => format!(r#"{{"error":"{{\"aws_secret_access_key\":\"{secret}\"}}"}}"#),
        };
        let redacted = redact(&text).into_owned();
        (text, redacted)
    }

    proptest! {
        #[test]
        fn any_text_is_redacted_without_a_panic_and_twice_is_once(text in ".{0,300}") {
            let once = redact(&text).into_owned();
            prop_assert_eq!(redact(&once).into_owned(), once);
        }

        #[test]
        fn texts_full_of_keywords_are_redacted_the_same_the_second_time(
            parts in prop::collection::vec(prop::sample::select(vec![
                "password", "=", ":", "\"", " ", "token", "Bearer ", "https://", "@", "eyJhbGciOiJI", ".", "[redacted]", "&", "sig=",
                "abc", "AKIAIOSFODNN7EXAMPLE", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "\n", "\\", "'", "secret", "authorization",
                "x9Y", "{", "}", "[", "]", ",", "?", "é"]), 0..40)) {
            let once = redact(&parts.concat()).into_owned();
            prop_assert_eq!(redact(&once).into_owned(), once);
        }

        #[test]
        fn a_secret_never_survives_where_secrets_are_written(secret in "[A-Za-z0-9+/._~-]{8,60}", form in 0_usize..8) {
            // An unescaped slash ends the user part of a URL, so no client accepts one there.
            let secret = if form == 1 { secret.replace('/', "x") } else { secret };
            let (text, redacted) = wrapped(&secret, form);
            prop_assert!(!redacted.contains(&secret), "{} became {}", text, redacted);
        }

        #[test]
        fn key_material_is_known_by_its_look(bytes in prop::collection::vec(any::<u8>(), 64..200), before in "[ a-z:]{0,20}") {
            let mut seed = 0_u64;
            // The bytes of a shrunk case are all alike, unlike any key, so they are mixed.
            let stirred: Vec<u8> = bytes.iter().map(|byte| { seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(u64::from(*byte) + 1); seed.to_be_bytes()[0] }).collect();
            let encoded = base64(&stirred);
            let redacted = redact(&format!("{before} {encoded} after")).into_owned();
            prop_assert!(!redacted.contains(&encoded[..24]), "{}", redacted);
        }
    }

    fn base64(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        bytes
            .chunks(3)
            .flat_map(|chunk| {
                let bits = chunk.iter().fold(0_usize, |bits, byte| (bits << 8) | usize::from(*byte))
                    << (8 * (3 - chunk.len()));
                (0..4).map(move |place| char::from(ALPHABET[(bits >> (18 - 6 * place)) & 63]))
            })
            .collect()
    }

    #[test]
    fn well_known_tokens_do_not_survive() {
        for secret in [
            "eyJhbGciOiJSUzI1NiIsImtpZCI6IngifQ.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl",
            "AKIAIOSFODNN7EXAMPLE",
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
            "xoxb-123456789012-1234567890123-abcdefghijklmnop",
            "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
        ] {
            let text = format!("found {secret} there");
            assert!(!redact(&text).contains(&secret[..secret.len() / 2]), "{secret}");
        }
    }

    #[test]
    fn what_looks_encoded_has_32_letters_and_digits_that_change_often() {
        let random = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF";
        assert_eq!((random.len(), redact(random).as_ref()), (32, REDACTED));
        assert_eq!(redact(&random[..31]), random[..31]);
        // Ten changes in 36 pairs: words that are joined, and not key material.
        assert_eq!(redact("CustomResourceDefinitionVersionsList2"), "CustomResourceDefinitionVersionsList2");
    }
}
