//! Corrects the results of credential providers: white space and quotes around keys, and extended expiries.

use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature as Feature;
use aws_credential_types::provider::error::CredentialsError;

use super::source;

/// Keeps the earlier expiry of an unchanged key. AWS issues new keys with new expiries; only AWS's own libraries extend
/// that of an instance, when the metadata service returns expired keys.
pub(super) fn keep_expiry(fetched: &mut Credentials, last: &Credentials) {
    if fetched.access_key_id() == last.access_key_id() && last.expiry().is_some() {
        *fetched.expiry_mut() = last.expiry().min(fetched.expiry().or(last.expiry()));
    }
}

/// Removes white space around keys, as an editor or `echo` adds it, and quotes, which `docker run --env-file` leaves
/// there. Rejects control characters, which no header can hold.
pub(super) fn trim(fetched: Credentials) -> Result<Credentials, CredentialsError> {
    let parts = [
        ("access key id", Some(fetched.access_key_id())),
        ("secret access key", Some(fetched.secret_access_key())),
        ("session token", fetched.session_token()),
    ];
    let (mut is_padded, mut trimmed) = (false, [const { None }; 3]);
    for ((name, part), place) in parts.into_iter().zip(&mut trimmed) {
        let Some(part) = part else { continue };
        let plain = without_quotes(part.trim()).trim();
        if plain.is_empty() || !plain.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            let source = source(&fetched);
            return Err(CredentialsError::invalid_configuration(format!(
                "the {name} from {source} is empty, or has a control character or one that is not ASCII"
            )));
        }
        if plain.len() < part.len() {
            is_padded = true;
            tracing::warn!(
                "the {name} from {} has white space or quotes around it, which are removed",
                source(&fetched)
            );
        }
        *place = Some(plain.to_owned());
    }
    if !is_padded {
        return Ok(fetched);
    }
    let [Some(id), Some(secret), token] = trimmed else { return Ok(fetched) };
    let mut plain = Credentials::new(id, secret, token, fetched.expiry(), "trailgate");
    if let Some(features) = fetched.get_property::<Vec<Feature>>() {
        plain.set_property(features.clone());
    }
    Ok(plain)
}

/// Returns the text between quotes, if it has two of a kind. No key of AWS contains one.
fn without_quotes(text: &str) -> &str {
    let between = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    between('"').or_else(|| between('\'')).unwrap_or(text)
}
