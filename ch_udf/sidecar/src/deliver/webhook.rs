//! Webhooks, signed as Standard Webhooks says: `webhook-id`, `webhook-timestamp` and
//! `webhook-signature`, which is an HMAC-SHA256 over id, time and body.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::Message;
use crate::error::{Chain, SidecarError};
use crate::servers::http::{self, HttpClient};

/// Time limit of an attempt. A receiver that answers later may have the message: it gets it again,
/// with the same id.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Secrets of Standard Webhooks begin with this, and are Base64.
const PREFIX: &str = "whsec_";

/// The key of the signature.
#[derive(Clone)]
pub(super) struct Secret(hmac::Key);

impl Secret {
    /// Reads `whsec_` and Base64, or any other text as it is.
    pub(super) fn parse(text: &SecretString) -> Result<Self, SidecarError> {
        let text = text.expose_secret().trim();
        let key = match text.strip_prefix(PREFIX) {
            Some(encoded) => STANDARD.decode(encoded).map_err(|_| SidecarError::Configuration {
                detail: "the secret of a webhook begins with whsec_, and what follows is not Base64".into(),
            })?,
            None => text.as_bytes().to_vec(),
        };
        if key.is_empty() {
            return Err(SidecarError::Configuration { detail: "the secret of a webhook is empty".into() });
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    fn sign(&self, id: &str, timestamp: u64, body: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    }
}

/// A receiver of webhooks.
pub(super) struct Webhook {
    url: Url,
    secret: Option<Secret>,
    client: HttpClient,
}

impl Webhook {
    pub(super) fn new(target: &str, secret: Option<Secret>) -> Result<Self, SidecarError> {
        let (url, client) = http::client_of(target, "a webhook", "the receiver of a webhook", TIMEOUT)?;
        Ok(Self { url, secret, client })
    }

    /// Sends a message. Only an answer of 2xx within the time limit is a success; a redirect is not
    /// followed, because another host would get the message and its signature.
    pub(super) async fn send(&self, message: &Message) -> Result<(), String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = self.request(message, now)?;
        let answer = tokio::time::timeout(TIMEOUT, self.client.request(request)).await;
        match answer {
            Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
            Ok(Err(error)) => Err(Chain(&error).to_string()),
            Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
            Ok(Ok(answer)) if answer.status().is_redirection() => {
                Err(format!("answer {}: redirects are not followed", answer.status().as_u16()))
            }
            Ok(Ok(answer)) => Err(format!("answer {}", answer.status().as_u16())),
        }
    }

    fn request(&self, message: &Message, timestamp: u64) -> Result<Request<Full<Bytes>>, String> {
        let id = &message.message_id;
        let mut request = Request::post(self.url.as_str())
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("idempotency-key", id);
        if let Some(secret) = &self.secret {
            request = request.header("webhook-signature", secret.sign(id, timestamp, &message.payload));
        }
        request.body(Full::from(message.payload.clone())).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_the_specification() {
        // The example of the specification of Standard Webhooks.
        let secret = Secret::parse(&"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()).unwrap();
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_wrong_secret_or_url_is_an_error_that_does_not_show_it() {
        for text in ["whsec_s3cr3t!", "whsec_", "  "] {
            let error = Secret::parse(&text.into()).err().unwrap().to_string();
            assert!(!error.contains("s3cr3t"), "{error}");
        }
        for url in ["ftp://x", "https://u:s3cr3t@x", "nothing"] {
            let error = Webhook::new(url, None).err().unwrap().to_string();
            assert!(error.contains("webhook") && !error.contains("s3cr3t"), "{error}");
        }
    }
}
