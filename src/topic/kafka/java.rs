//! Security as Java's clients are told it, in librdkafka's names, so that ksqlDB's files work here.
//!
//! Only what has another name or form there. The subtle thing: key stores in Java's own format cannot be read here, which is said with the
//! remedy, and never with a value.

use std::collections::BTreeMap;

use crate::topic::TopicError;

const JAAS: &str = "sasl.jaas.config";
const TRUST_STORE: &str = "ssl.truststore.location";
const TRUST_STORE_TYPE: &str = "ssl.truststore.type";
const TRUSTED: &str = "ssl.truststore.certificates";
const KEY_STORE_TYPE: &str = "ssl.keystore.type";
const KEY_CHAIN: &str = "ssl.keystore.certificate.chain";
const KEY: &str = "ssl.keystore.key";
const IDENTIFICATION: &str = "ssl.endpoint.identification.algorithm";

/// The properties with Java's ones put into librdkafka's; what stands there already is kept.
///
/// # Errors
/// A login module or a key store that is not known here.
pub(super) fn translated(mut from: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, TopicError> {
    let invalid = |text: String| Err(TopicError::Invalid(text));
    if let Some(jaas) = from.remove(JAAS) {
        for (option, name) in [("username", "sasl.username"), ("password", "sasl.password")] {
            match jaas_option(&jaas, option) {
                Some(value) => drop(from.entry(name.to_owned()).or_insert(value)),
                None if from.contains_key(name) => {}
                None => {
                    return invalid(format!(
                        "property {JAAS} has no {option}; write …LoginModule required username=\"…\" password=\"…\"; or set sasl.username and sasl.password"
                    ));
                }
            }
        }
    }
    let store_type = from.remove(TRUST_STORE_TYPE);
    if let Some(path) = from.remove(TRUST_STORE) {
        if !store_type.is_some_and(|ty| ty.eq_ignore_ascii_case("PEM"))
            && !path.ends_with(".pem")
            && !path.ends_with(".crt")
        {
            return invalid(format!(
                "property {TRUST_STORE}: only PEM files can be read here; write the authority's certificate to one (keytool -exportcert -rfc) and set ssl.ca.location"
            ));
        }
        from.entry("ssl.ca.location".to_owned()).or_insert(path);
    }
    for (java, name) in [(TRUSTED, "ssl.ca.pem"), (KEY_CHAIN, "ssl.certificate.pem"), (KEY, "ssl.key.pem")] {
        if let Some(value) = from.remove(java) {
            from.entry(name.to_owned()).or_insert(value);
        }
    }
    match from.remove(KEY_STORE_TYPE) {
        Some(ty) if ty.eq_ignore_ascii_case("JKS") => {
            return invalid(format!(
                "property {KEY_STORE_TYPE}: JKS cannot be read here; convert it with keytool -importkeystore -deststoretype PKCS12"
            ));
        }
        Some(ty) if ty.eq_ignore_ascii_case("PEM") => {
            // one file with both
            if let Some(path) = from.remove("ssl.keystore.location") {
                from.entry("ssl.certificate.location".to_owned()).or_insert_with(|| path.clone());
                from.entry("ssl.key.location".to_owned()).or_insert(path);
            }
        }
        _ => {}
    }
    if from.get(IDENTIFICATION).is_some_and(String::is_empty) {
        from.insert(IDENTIFICATION.to_owned(), "none".to_owned());
    }
    Ok(from)
}

/// The value of an option of a login module: `name="value"`, where a backslash takes the next character as it is.
fn jaas_option(jaas: &str, option: &str) -> Option<String> {
    let mut rest = jaas;
    loop {
        let at = rest.find(option)?;
        let is_word = rest[..at].ends_with(|c: char| c.is_whitespace()) || at == 0;
        rest = &rest[at + option.len()..];
        let Some(value) = rest.trim_start().strip_prefix('=').map(str::trim_start) else { continue };
        if !is_word {
            continue;
        }
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let Some(quote) = quote else {
            return Some(value.split(|c: char| c.is_whitespace() || c == ';').next().unwrap_or_default().to_owned());
        };
        let (mut out, mut chars) = (String::new(), value.chars().skip(1));
        while let Some(c) = chars.next() {
            match c {
                '\\' => out.extend(chars.next()),
                c if c == quote => return Some(out),
                c => out.push(c),
            }
        }
        return None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<BTreeMap<String, String>, String> {
        translated(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()).map_err(|e| e.to_string())
    }

    #[test]
    fn a_login_module_becomes_name_and_password() {
        let jaas = r#"org.apache.kafka.common.security.plain.PlainLoginModule required username="al\"ice" password = 'pass word;'; "#;
        let got = of(&[(JAAS, jaas)]).unwrap();
        assert_eq!((got["sasl.username"].as_str(), got["sasl.password"].as_str()), ("al\"ice", "pass word;"));
        let bare = of(&[(JAAS, "x.ScramLoginModule required username=carol password=s3cret;")]).unwrap();
        assert_eq!((bare["sasl.username"].as_str(), bare["sasl.password"].as_str()), ("carol", "s3cret"));
        let error = of(&[(JAAS, "x.ScramLoginModule required password=\"s3cret\";")]).unwrap_err();
        assert!(error.contains("no username") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn stores_that_can_be_read_are_taken_and_others_say_what_to_do() {
        let pem =
            of(&[(TRUST_STORE, "/t/ca.pem"), (KEY_STORE_TYPE, "PEM"), ("ssl.keystore.location", "/t/client.pem")])
                .unwrap();
        assert_eq!(pem["ssl.ca.location"], "/t/ca.pem");
        assert_eq!(
            (pem["ssl.certificate.location"].as_str(), pem["ssl.key.location"].as_str()),
            ("/t/client.pem", "/t/client.pem")
        );
        let twelve = of(&[(KEY_STORE_TYPE, "PKCS12"), ("ssl.keystore.location", "/t/c.p12")]).unwrap();
        assert_eq!(twelve["ssl.keystore.location"], "/t/c.p12");
        assert!(of(&[(TRUST_STORE, "/t/trust.jks")]).unwrap_err().contains("ssl.ca.location"));
        assert!(of(&[(KEY_STORE_TYPE, "JKS")]).unwrap_err().contains("PKCS12"));
        assert_eq!(of(&[(IDENTIFICATION, "")]).unwrap()[IDENTIFICATION], "none");
    }
}
