//! Throw-away authorities and certificates, and a terminator of TLS before a server that has none.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::account::Account;

/// An authority that signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

/// Years of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    Now,
    Expired,
}

/// A certificate with its key, in PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
    serial: u64,
}

impl Authority {
    /// Makes an authority of this name.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Certificate of the authority, in PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Signs a certificate for these names. The first is the common name, too.
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn sign(&self, names: &[&str], validity: Validity) -> Result<Pair> {
        let mut params = parameters(names, validity)?;
        let serial: u64 = u64::from_be_bytes(KeyPair::generate()?.public_key_raw()[1..9].try_into()?) >> 1;
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair { certificate, key: key.serialize_pem(), serial })
    }

    /// Signs a list of revoked certificates, in PEM.
    ///
    /// # Errors
    /// When the list cannot be made.
    pub fn revoke(&self, pairs: &[&Pair]) -> Result<String> {
        let revoked = |pair: &&Pair| RevokedCertParams {
            serial_number: SerialNumber::from(pair.serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2999, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: pairs.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }
}

/// Makes a certificate that is its own authority, as administrators do by hand.
///
/// # Errors
/// When the certificate cannot be made.
pub fn self_signed(names: &[&str], validity: Validity) -> Result<Pair> {
    let mut params = parameters(names, validity)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    Ok(Pair { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem(), serial: 1 })
}

fn parameters(names: &[&str], validity: Validity) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names.clone())?;
    params.distinguished_name.push(DnType::CommonName, names.first().context("a certificate needs a name")?.as_str());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = match validity {
        Validity::Now => date_time_ymd(2999, 1, 1),
        Validity::Expired => date_time_ymd(2021, 1, 1),
    };
    Ok(params)
}

impl Pair {
    /// Writes `NAME.crt` and `NAME.key` for the current account, in one step each, and returns
    /// their paths.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
        let certificate = write(folder, &format!("{name}.crt"), &self.certificate)?;
        Ok((certificate, write(folder, &format!("{name}.key"), &self.key)?))
    }

    /// Writes both files into a folder that another account reads.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_for(&self, account: &Account, folder: &Path, name: &str) -> Result<(PathBuf, PathBuf)> {
        let (certificate, key) = self.write(folder, name)?;
        account.own(&certificate)?;
        account.own(&key)?;
        Ok((certificate, key))
    }

    fn server(&self, client_roots: Option<&str>) -> Result<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?;
        let builder = match client_roots {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                builder.with_client_cert_verifier(
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots(pem)?), provider).build()?,
                )
            }
        };
        Ok(builder
            .with_single_cert(certificates(&self.certificate)?, PrivateKeyDer::from_pem_slice(self.key.as_bytes())?)?)
    }
}

/// Writes a file that only its account may read, in one step.
///
/// # Errors
/// When it cannot be written.
pub fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(|| format!("write {}", path.display()))?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.persist(&path).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    Ok(CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>()?)
}

fn roots(pem: &str) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(pem)? {
        store.add(certificate)?;
    }
    Ok(store)
}

/// Sends a request by HTTPS, and returns the whole answer.
///
/// # Errors
/// When the handshake fails or the server does not answer.
pub fn https_get(address: SocketAddr, authority: &Authority, path: &str, headers: &str) -> Result<String> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(authority.certificate())?)
        .with_no_client_auth();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost")?;
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        let outcome = stream.read_to_end(&mut answer).await;
        if answer.is_empty() {
            outcome?;
        }
        Ok(String::from_utf8(answer)?)
    })
}

/// A server of TLS on a free port of the loopback address that forwards what it decrypts. It ends
/// with the process.
#[derive(Debug)]
pub struct Terminator {
    port: u16,
    /// `None`: it forwards without TLS.
    config: Arc<Mutex<Option<Arc<ServerConfig>>>>,
}

impl Terminator {
    /// Forwards to `target`. With `client_roots`, clients need a certificate of that authority.
    ///
    /// # Errors
    /// When it cannot listen, or the certificate cannot be used.
    pub fn start(target: u16, pair: &Pair, client_roots: Option<&str>) -> Result<Self> {
        Self::listen(target, Some(Arc::new(pair.server(client_roots)?)))
    }

    /// Forwards to `target` without TLS.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn plain(target: u16) -> Result<Self> {
        Self::listen(target, None)
    }

    fn listen(target: u16, config: Option<Arc<ServerConfig>>) -> Result<Self> {
        let config = Arc::new(Mutex::new(config));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen for the terminator")?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let current = Arc::clone(&config);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let serving = async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((client, _)) = listener.accept().await {
                let config = current.lock().unwrap_or_else(PoisonError::into_inner).clone();
                tokio::spawn(forward(client, config, target));
            }
        };
        std::thread::Builder::new().name("terminator".into()).spawn(move || runtime.block_on(serving))?;
        Ok(Self { port, config })
    }

    /// Port to connect to.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Replaces the certificate for new connections.
    ///
    /// # Errors
    /// When the certificate cannot be used.
    pub fn replace(&self, pair: &Pair) -> Result<()> {
        *self.config.lock().map_err(|_| anyhow!("the terminator has panicked"))? = Some(Arc::new(pair.server(None)?));
        Ok(())
    }
}

async fn forward(mut client: TcpStream, config: Option<Arc<ServerConfig>>, target: u16) -> io::Result<()> {
    client.set_nodelay(true)?;
    let connect = async || {
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await?;
        server.set_nodelay(true)?;
        Ok::<_, io::Error>(server)
    };
    match config {
        None => copy_bidirectional(&mut client, &mut connect().await?).await,
        Some(config) => {
            let mut client = TlsAcceptor::from(config).accept(client).await?;
            copy_bidirectional(&mut client, &mut connect().await?).await
        }
    }
    .map(drop)
}
