//! One value per option: flag > environment > file > default.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use walcast_replicator::Secret;

use super::{
    database_url,
    environment::Environment,
    error::ConfigError,
    file,
    flags::Flags,
    options::{self, ALL, OptionSpec},
    value,
};

/// The values that somebody set; the defaults are in the table.
pub(super) struct Settings(BTreeMap<&'static str, Setting>);

struct Setting {
    text: String,
    origin: Origin,
}

/// Where a value came from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    Flag(&'static str),
    Variable(String),
    File(&'static str, PathBuf),
    /// A part of the database URL, which came from there.
    Url(&'static str, Box<Self>),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(formatter, "--{name}"),
            Self::Variable(name) => formatter.write_str(name),
            Self::File(name, path) => write!(formatter, "{name} in {}", path.display()),
            Self::Url(part, origin) => write!(formatter, "the {part} in {origin}"),
        }
    }
}

impl Settings {
    /// Collects what the sources say, and checks each value against its kind.
    pub(super) fn collect(flags: &Flags, environment: &Environment) -> Result<Self, ConfigError> {
        environment.check_names()?;
        let mut settings = Self(BTreeMap::new());
        settings.take(&options::CONFIG, flags, environment, None)?;
        let file = match settings.0.get(options::CONFIG.name) {
            Some(setting) => {
                let path = PathBuf::from(&setting.text);
                let values = file::parse(&path, &file::read(&setting.text)?)?;
                Some((path, values))
            }
            None => None,
        };
        for option in ALL {
            settings.take(option, flags, environment, file.as_ref())?;
        }
        settings.take_database_url()?;
        settings.refuse_both(&options::JWT_JWKS, &options::JWT_JWKS_FILE)?;
        for (name, setting) in &settings.0 {
            if let Some(option) = OptionSpec::find(name)
                && let Err(error) = value::check(option.kind, &setting.text)
            {
                let shown = option.is_shown().then_some(setting.text.as_str());
                return Err(ConfigError::must_be(setting.origin.to_string(), shown, &error));
            }
        }
        Ok(settings)
    }

    fn take(
        &mut self,
        option: &'static OptionSpec,
        flags: &Flags,
        environment: &Environment,
        file: Option<&(PathBuf, BTreeMap<&'static str, String>)>,
    ) -> Result<(), ConfigError> {
        if let Some(text) = flags.value(option) {
            let setting = Setting { text: text.to_owned(), origin: Origin::Flag(option.name) };
            self.0.insert(option.name, setting);
            return Ok(());
        }
        for variable in environment.values_of(option) {
            let (name, text) = variable?;
            let setting = Setting { text, origin: Origin::Variable(name) };
            self.add(option, setting)?;
        }
        if let Some((path, values)) = file
            && let Some(text) = values.get(option.name)
        {
            self.0.entry(option.name).or_insert_with(|| Setting {
                text: text.clone(),
                origin: Origin::File(option.name, path.clone()),
            });
        }
        Ok(())
    }

    /// Adds a value that may repeat what is there, but not contradict it.
    fn add(&mut self, option: &'static OptionSpec, setting: Setting) -> Result<(), ConfigError> {
        match self.0.get(option.name) {
            Some(present) if present.text != setting.text => Err(ConfigError::Contradiction {
                first: present.origin.to_string(),
                second: setting.origin.to_string(),
            }),
            Some(_) => Ok(()),
            None => {
                self.0.insert(option.name, setting);
                Ok(())
            }
        }
    }

    fn take_database_url(&mut self) -> Result<(), ConfigError> {
        let Some(Setting { text, origin }) = self.0.get(options::DATABASE_URL.name) else {
            return Ok(());
        };
        let origin = origin.clone();
        let parts = database_url::parse(text).map_err(|error| ConfigError::DatabaseUrl {
            origin: origin.to_string(),
            reason: error.to_string(),
        })?;
        for (option, part, text) in parts {
            let origin = Origin::Url(part, Box::new(origin.clone()));
            self.add(option, Setting { text, origin })?;
        }
        Ok(())
    }

    fn refuse_both(&self, first: &OptionSpec, second: &OptionSpec) -> Result<(), ConfigError> {
        match (self.0.get(first.name), self.0.get(second.name)) {
            (Some(first), Some(second)) => Err(ConfigError::Contradiction {
                first: first.origin.to_string(),
                second: second.origin.to_string(),
            }),
            (_, _) => Ok(()),
        }
    }

    pub(super) fn is_default(&self, option: &OptionSpec) -> bool {
        !self.0.contains_key(option.name)
    }

    pub(super) fn is_from_variable(&self, option: &OptionSpec, variable: &str) -> bool {
        self.0.get(option.name).is_some_and(
            |setting| matches!(&setting.origin, Origin::Variable(name) if name == variable),
        )
    }

    /// The value, unless nobody set one and there is no default.
    pub(super) fn optional(&self, option: &OptionSpec) -> Option<String> {
        match self.0.get(option.name) {
            Some(setting) => Some(setting.text.clone()),
            None => option.default.map(str::to_owned),
        }
    }

    pub(super) fn text(&self, option: &OptionSpec) -> Result<String, ConfigError> {
        self.optional(option).ok_or_else(|| self.invalid(option, "must be set"))
    }

    pub(super) fn secret(&self, option: &OptionSpec) -> Option<Secret> {
        self.optional(option).map(Secret::new)
    }

    pub(super) fn number<N: TryFrom<u64>>(&self, option: &OptionSpec) -> Result<N, ConfigError> {
        let (min, max) = option.kind.bounds();
        let number = value::number(&self.text(option)?, min, max)
            .map_err(|error| self.must_be(option, &error))?;
        N::try_from(number).map_err(|_| self.invalid(option, "is too large"))
    }

    pub(super) fn bytes<N: TryFrom<u64>>(&self, option: &OptionSpec) -> Result<N, ConfigError> {
        let bytes =
            value::bytes(&self.text(option)?).map_err(|error| self.must_be(option, &error))?;
        N::try_from(bytes).map_err(|_| self.invalid(option, "is too large"))
    }

    pub(super) fn duration(&self, option: &OptionSpec) -> Result<Duration, ConfigError> {
        value::duration(&self.text(option)?).map_err(|error| self.must_be(option, &error))
    }

    pub(super) fn boolean(&self, option: &OptionSpec) -> Result<bool, ConfigError> {
        value::boolean(&self.text(option)?).map_err(|error| self.must_be(option, &error))
    }

    pub(super) fn list(&self, option: &OptionSpec) -> Result<Vec<String>, ConfigError> {
        Ok(value::list(&self.text(option)?))
    }

    /// The error that this option's value has that fault.
    pub(super) fn invalid(&self, option: &OptionSpec, reason: impl Into<String>) -> ConfigError {
        let setting = self.0.get(option.name);
        ConfigError::Invalid {
            origin: setting.map_or_else(|| option.name.to_owned(), |set| set.origin.to_string()),
            value: setting.filter(|_| option.is_shown()).map(|setting| setting.text.clone()),
            reason: reason.into(),
        }
    }

    fn must_be(&self, option: &OptionSpec, error: &value::ConversionError) -> ConfigError {
        self.invalid(option, format!("must be {}", error.0))
    }
}
