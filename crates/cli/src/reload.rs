//! SIGHUP under `run`: the configuration file is read again, and the hub becomes what it says now, or stays
//! what it was.

use std::path::PathBuf;
use std::sync::Arc;

use pcaphub::config::{self, Config, Filters};
use pcaphub::hub::Handle;
use pcaphub::inherited::WithInherited;
use pcaphub::opener::{Opener, Renewal};
use pcaphub::tls::TlsReloader;
use tokio::signal::unix::Signal;

use crate::{logging, run, service};

/// Reads a file again, and changes a hub by it.
pub(crate) struct Reload {
    /// The configuration file.
    pub(crate) file: PathBuf,
    /// The hub.
    pub(crate) hub: Handle,
    /// Through which files are opened.
    pub(crate) opener: Arc<WithInherited>,
    /// The certificates of all endpoints.
    pub(crate) certificates: TlsReloader,
    /// Settings outside the plan, as they were at the start.
    pub(crate) start: Settings,
}

/// Settings outside the plan that hold from the start on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// How logs are written.
    pub(crate) json_log: bool,
    /// How counts are.
    pub(crate) stats_json: bool,
    /// Who root became.
    pub(crate) user: Option<String>,
}

impl Settings {
    /// Those of these that are different now.
    fn differing(&self, now: &Settings) -> impl Iterator<Item = &'static str> {
        [
            ("[log] format", self.json_log != now.json_log),
            ("stats", self.stats_json != now.stats_json),
            ("user", self.user != now.user),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
    }
}

impl Reload {
    /// Reads it at each of these signals, one after the other; never returns.
    pub(crate) async fn at(self, mut signal: Signal) {
        while signal.recv().await.is_some() {
            service::reloading();
            match self.now().await {
                Ok(what) => tracing::info!("{}: {what}", self.file.display()),
                Err(error) => {
                    const STAYS: &str =
                        "everything stays as it was, since the configuration file cannot be used:";
                    // Each mistake in a line of its own, as `check` tells them.
                    error.to_string().lines().for_each(|line| tracing::error!("{STAYS} {line}"));
                }
            }
            service::reloaded();
        }
        std::future::pending().await
    }

    /// What has changed.
    async fn now(&self) -> anyhow::Result<String> {
        let done = self.attempt().await;
        let renewal = if done.is_ok() { Renewal::Taken } else { Renewal::Refused };
        let opener = self.opener.clone();
        tokio::task::spawn_blocking(move || opener.settle(renewal)).await?;
        done
    }

    async fn attempt(&self) -> anyhow::Result<String> {
        let (file, opener) = (self.file.clone(), self.opener.clone());
        let load = move || {
            // The helper that opens for us reads the file itself, and permits what it names.
            opener.renew()?;
            anyhow::Ok(config::load(&file, opener.as_ref(), Filters::Compile)?)
        };
        let config: Config = tokio::task::spawn_blocking(load).await??;
        for note in &config.notes {
            tracing::warn!("{note}");
        }
        let changed = self.hub.change(config.plan.clone()).await?;
        let (certificates, opener) = (self.certificates.clone(), self.opener.clone());
        let follow = move || {
            // What is wrong with a certificate is told where it is read; the one before stays.
            certificates.reload_all();
            service::warn_of_unused(&opener, &config.plan);
        };
        tokio::task::spawn_blocking(follow).await?;
        let now = Settings {
            json_log: config.log_format == config::LogFormat::Json,
            stats_json: config.stats_json,
            user: config.user.clone(),
        };
        let later: Vec<_> = changed.later.iter().copied().chain(self.start.differing(&now)).collect();
        if !later.is_empty() {
            let (file, later) = (self.file.display(), later.join(", "));
            tracing::warn!("{file}: {later} changed, which holds from the next start on");
        }
        logging::set_verbosity(run::verbosity(config.log_level));
        Ok(match (changed.came, changed.went, changed.altered) {
            (0, 0, 0) => "read again; every source and sink stays as it is".to_owned(),
            (0, 0, altered) => {
                format!(
                    "read again; every source and sink stays, {altered} of them with another filter or networks"
                )
            }
            (came, went, altered) => {
                format!("read again; sources and sinks: {came} came, {went} went, {altered} changed in place")
            }
        })
    }
}
