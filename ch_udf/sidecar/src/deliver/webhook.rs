//! Webhooks, signed as Standard Webhooks says: `webhook-id`, `webhook-timestamp` and
//! `webhook-signature`, which is an HMAC-SHA256 over id, time and body.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::Message;
use crate::error::{Chain, SidecarError};
use crate::servers::tls::ClientTls;

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
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Webhook {
    pub(super) fn new(target: &str, secret: Option<Secret>) -> Result<Self, SidecarError> {
        let wrong = |detail: String| SidecarError::Configuration { detail };
        let url = Url::parse(target).map_err(|error| wrong(format!("the URL of a webhook is wrong: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("the URL of a webhook must begin with http or https, and hold no password".into()));
        }
        let config = ClientTls::verified(None, None).config().map_err(|source| SidecarError::TlsFile {
            server: "the receiver of a webhook",
            address: url.host_str().unwrap_or_default().to_owned(),
            source: Box::new(source),
        })?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Ok(Self { url, secret, client: Client::builder(TokioExecutor::new()).build(connector) })
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
