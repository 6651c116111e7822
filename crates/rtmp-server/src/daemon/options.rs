//! The command line that both servers share. Every option becomes a directive
//! and overrides the file's.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::control::UpgradeOptions;
use super::sign::SignOptions;
use crate::config::{self, ConfigError, DEFAULT_VHOST, Directive, Loaded, Location, Role, conf};
use crate::top::TopOptions;

/// What may be done instead of serving.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum Command {
    Sign(SignOptions),
    Top(TopOptions),
    Upgrade(UpgradeOptions),
}

/// Options that both servers have.
#[derive(Debug, Clone, Default, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    pub(super) command: Option<Command>,

    /// Configuration in SRS's format, or JSON if it ends in .json
    #[arg(short = 'c', long = "conf", value_name = "FILE")]
    pub conf: Option<PathBuf>,

    /// Check the configuration and exit: 0 if it is good, 2 if not
    #[arg(short = 't', long)]
    pub check: bool,

    /// Read the configuration, and what a running server would hand over, as an upgrade
    /// does before it happens
    #[arg(long, hide = true)]
    pub rehearse: bool,

    /// Go to the background (otherwise we stay in the foreground, whatever
    /// `daemon` says in the file)
    #[arg(long)]
    pub daemon: bool,

    /// Take RTMP connections here; may be repeated [default: 1935]
    #[arg(short, long, value_name = "[IP:]PORT", help_heading = "Settings")]
    pub listen: Vec<String>,

    /// Answer the HTTP API here, e.g. 127.0.0.1:1985 [default: off]
    #[arg(long, value_name = "[IP:]PORT", help_heading = "Settings")]
    pub http_api: Option<String>,

    /// Connections beyond this number are closed [default: 1000]
    #[arg(long, value_name = "N", help_heading = "Settings")]
    pub max_connections: Option<String>,

    /// Write our process id to this file
    #[arg(long, value_name = "FILE", help_heading = "Settings")]
    pub pid: Option<String>,

    /// Write the log to this file [default: standard error]
    #[arg(long, value_name = "FILE", help_heading = "Settings")]
    pub log_file: Option<String>,

    /// error, warn, info or debug [default: info]
    #[arg(long, value_name = "LEVEL", help_heading = "Settings")]
    pub log_level: Option<String>,

    /// Fan-out threads [default: one per core]
    #[arg(long, value_name = "N", help_heading = "Settings")]
    pub workers: Option<String>,

    /// Start players at the newest keyframe rather than the next
    /// [default: on]
    #[arg(long, value_name = "on|off", help_heading = "Settings")]
    pub gop_cache: Option<String>,

    /// Seconds that a player may be behind before it is moved to a keyframe
    /// [default: 30]
    #[arg(long, value_name = "SECONDS", help_heading = "Settings")]
    pub queue_length: Option<String>,

    /// Send each message at once rather than gathering them [default: off]
    #[arg(long, value_name = "on|off", help_heading = "Settings")]
    pub min_latency: Option<String>,

    /// Milliseconds for which messages are gathered otherwise [default: 350]
    #[arg(long, value_name = "MS", help_heading = "Settings")]
    pub mw_latency: Option<String>,

    /// Any other directive, as it would stand in the file, for the default
    /// vhost if it is a vhost's; may be repeated
    #[arg(
        long = "set",
        value_name = "'DIRECTIVE VALUE'",
        help_heading = "Settings"
    )]
    pub set: Vec<String>,

    /// Pull from these origins; set by the edge's own option
    #[arg(skip)]
    pub origins: Vec<String>,
}

impl Options {
    /// Reads the file, if there is one, and applies the options over it.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(&self, role: Role) -> Result<Loaded, ConfigError> {
        let mut directives = match &self.conf {
            Some(path) => config::read_file(path).map_err(ConfigError::from)?,
            None => Vec::new(),
        };
        let names_default =
            |it: &Directive| it.keyword == "vhost" && it.arguments == [DEFAULT_VHOST];
        let has_default_vhost = directives.iter().any(names_default);
        directives.extend(self.directives(has_default_vhost)?);
        config::build(&directives, role)
    }

    /// The options as directives. `has_default_vhost`: the file has a block of the
    /// default vhost, whose directives override those outside of vhosts.
    fn directives(&self, has_default_vhost: bool) -> Result<Vec<Directive>, ConfigError> {
        let option = |name: &str| Location::whole(&format!("--{name}"));
        let mut globals = Vec::new();
        let mut vhost = Vec::new();
        if !self.listen.is_empty() {
            let values: Vec<&str> = self.listen.iter().map(String::as_str).collect();
            globals.push(Directive::leaf("listen", &values, option("listen")));
        }
        if let Some(address) = &self.http_api {
            let place = option("http-api");
            let children = vec![
                Directive::leaf("enabled", &["on"], place.clone()),
                Directive::leaf("listen", &[address], place.clone()),
            ];
            globals.push(Directive::block("http_api", &[], children, place));
        }
        for (flag, directive, value) in [
            ("max-connections", "max_connections", &self.max_connections),
            ("pid", "pid", &self.pid),
            ("log-file", "srs_log_file", &self.log_file),
            ("log-level", "srs_log_level", &self.log_level),
            ("workers", "workers", &self.workers),
        ] {
            if let Some(value) = value {
                globals.push(Directive::leaf(directive, &[value], option(flag)));
            }
        }
        for (flag, directive, value) in [
            ("gop-cache", "gop_cache", &self.gop_cache),
            ("queue-length", "queue_length", &self.queue_length),
            ("min-latency", "min_latency", &self.min_latency),
            ("mw-latency", "mw_latency", &self.mw_latency),
        ] {
            if let Some(value) = value {
                vhost.push(Directive::leaf(directive, &[value], option(flag)));
            }
        }
        if !self.origins.is_empty() {
            let values: Vec<&str> = self.origins.iter().map(String::as_str).collect();
            vhost.push(Directive::leaf("mode", &["remote"], option("origin")));
            vhost.push(Directive::leaf("origin", &values, option("origin")));
        }
        for text in &self.set {
            let ended = text.trim_end().ends_with([';', '}']);
            let text = format!("{text}{}", if ended { "" } else { ";" });
            let read = conf::parse("--set", &text).map_err(ConfigError::from)?;
            for mut directive in read {
                directive.location = option("set");
                let name = &directive.keyword;
                if !config::is_global(name) {
                    vhost.push(directive);
                    continue;
                }
                if has_default_vhost && config::is_of_vhosts(name) {
                    vhost.push(directive.clone());
                }
                globals.push(directive);
            }
        }
        if !vhost.is_empty() {
            let place = vhost[0].location.clone();
            globals.push(Directive::block("vhost", &[DEFAULT_VHOST], vhost, place));
        }
        Ok(globals)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn flags_alone_make_a_configuration() {
        let options = Options {
            listen: vec!["19350".into(), "127.0.0.1:7".into()],
            origins: vec!["a:1".into(), "b".into()],
            http_api: Some("127.0.0.1:1985".into()),
            min_latency: Some("on".into()),
            ..Options::default()
        };
        let config = options.load(Role::Edge).unwrap().config;
        assert_eq!(
            config.listen,
            [
                "[::]:19350".parse().unwrap(),
                "127.0.0.1:7".parse().unwrap()
            ]
        );
        let api = config.http_api.unwrap();
        assert_eq!(api.listen, "127.0.0.1:1985".parse().unwrap());
        let vhost = &config.vhosts[DEFAULT_VHOST];
        let origins = &vhost.upstream.as_ref().unwrap().origins;
        let origins: Vec<_> = origins.iter().map(ToString::to_string).collect();
        assert_eq!(origins, ["a:1", "b:1935"]);
        assert_eq!(vhost.effective_mw_latency(), Duration::ZERO);
    }

    #[test]
    fn any_directive_can_be_set() {
        let set = [
            "chunk_size 4096",
            "send_timeout 5000;",
            "vhost other { gop_cache off; }",
        ];
        let options = Options {
            set: set.map(String::from).into(),
            ..Options::default()
        };
        let config = options.load(Role::Origin).unwrap().config;
        assert_eq!(config.vhosts[DEFAULT_VHOST].chunk_size, 4096);
        assert_eq!(
            config.vhosts[DEFAULT_VHOST].send_timeout,
            Duration::from_secs(5)
        );
        assert!(!config.vhosts["other"].gop_cache);
    }

    /// `chunk_size` and others stand outside of vhosts and in them.
    #[test]
    fn what_is_set_overrides_the_file_outside_of_vhosts_and_in_the_default_one() {
        let directory = tempfile::tempdir().unwrap();
        let conf = directory.path().join("x.conf");
        let set = [
            "chunk_size 4096",
            "in_ack_size 1",
            "out_ack_size 2",
            "tcp_nodelay on",
        ];
        let load = |text: &str| {
            std::fs::write(&conf, text).unwrap();
            let options = Options {
                conf: Some(conf.clone()),
                set: set.map(String::from).into(),
                ..Options::default()
            };
            options.load(Role::Origin).unwrap().config
        };
        let others = "chunk_size 128; in_ack_size 7; out_ack_size 7; tcp_nodelay off;";
        for text in [
            format!("{others} vhost {DEFAULT_VHOST} {{ {others} }}"),
            others.to_owned(),
            format!("{others} vhost other {{ }}"),
        ] {
            let config = load(&text);
            assert_eq!(config.vhosts.len(), 1, "no vhost is added: {text}");
            let vhost = config.vhosts.values().next().unwrap();
            assert_eq!(vhost.chunk_size, 4096, "{text}");
            assert_eq!((vhost.in_ack_size, vhost.out_ack_size), (1, 2), "{text}");
            assert!(vhost.tcp_nodelay, "{text}");
        }
    }

    #[test]
    fn a_wrong_option_is_named() {
        let options = Options {
            mw_latency: Some("fast".into()),
            ..Options::default()
        };
        let mistake = options.load(Role::Origin).unwrap_err().to_string();
        assert!(
            mistake
                .starts_with("--mw-latency: `mw_latency` expects a whole number of milliseconds"),
            "{mistake}"
        );
        let options = Options {
            set: vec!["gop_cach on".into()],
            ..Options::default()
        };
        let mistake = options.load(Role::Origin).unwrap_err().to_string();
        assert!(mistake.contains("did you mean `gop_cache`?"), "{mistake}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let options = Options {
            conf: Some("/nonexistent/x.conf".into()),
            ..Options::default()
        };
        let mistake = options.load(Role::Origin).unwrap_err().to_string();
        assert!(
            mistake.starts_with("/nonexistent/x.conf: cannot read"),
            "{mistake}"
        );
    }
}
