//! A page in Chromium, and what somebody does with it.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use perpacket_lab::Node;
use serde_json::{Value, json};
use thirtyfour::{By, WebElement};

use crate::clients::browser::{Browser, CHROMIUM};
use crate::clients::home::Home;
use crate::support::connection::DEADLINE;

/// How wide a page is for whoever sits at a desk, pixels.
pub(crate) const DESK: u32 = 1280;

/// How wide one is on a phone.
pub(crate) const PHONE: u32 = 390;

const HEIGHT: u32 = 900;

/// Room below the last element of a picture.
const MARGIN: u32 = 16;

/// Charts follow a new size with the next frame.
const NEXT_FRAME: &str = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))";

#[derive(Clone, Copy, Debug)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

pub(crate) struct Page {
    browser: Browser,
    // Dropped last: what is still there then goes with it.
    _home: Home,
}

impl Page {
    /// Opens a page in a browser of its own.
    pub(crate) fn open(node: &Node, url: &str) -> Result<Self> {
        let home = Home::of(node);
        let page = Self {
            browser: Browser::start(node, &CHROMIUM, false)?,
            _home: home,
        };
        page.look(DESK, Scheme::Light)?;
        page.go_to(url)?;
        Ok(page)
    }

    pub(crate) fn go_to(&self, url: &str) -> Result<()> {
        Ok(self
            .browser
            .drive(|driver| async move { driver.goto(url).await })?)
    }

    pub(crate) fn reload(&self) -> Result<()> {
        Ok(self
            .browser
            .drive(|driver| async move { driver.refresh().await })?)
    }

    /// Runs a script, and returns what it returns.
    pub(crate) fn run(&self, script: &str) -> Result<Value> {
        let value = self.browser.drive(|driver| async move {
            let value = driver.execute(script, Vec::new()).await?;
            anyhow::Ok(value.json().clone())
        });
        value.with_context(|| script.to_owned())
    }

    /// Waits until an expression of JavaScript is neither false nor nothing, and returns its value. The page may be on
    /// its way to another one meanwhile.
    pub(crate) fn wait(&self, what: &str, expression: &str) -> Result<Value> {
        let script = format!("return ({expression}) || null");
        let deadline = Instant::now() + DEADLINE;
        loop {
            let value = self.run(&script);
            match value {
                Ok(value) if !value.is_null() => return Ok(value),
                value if Instant::now() > deadline => {
                    let told = self.picture("failed").and_then(|()| self.text("body"));
                    bail!(
                        "no page {what}: {value:?}, {told:?}, {:?}",
                        self.complaints()
                    );
                }
                _ => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Waits until the first element of those has this text in it.
    pub(crate) fn wait_for_text(&self, selector: &str, text: &str) -> Result<()> {
        let (selector, text) = (json!(selector), json!(text));
        let shown = format!("document.querySelector({selector})?.checkVisibility()");
        let has = format!("document.querySelector({selector})?.textContent.includes({text})");
        self.wait(
            &format!("with {text} in {selector}"),
            &format!("{shown} && {has}"),
        )?;
        Ok(())
    }

    /// Clicks the first element of those, as soon as there is one.
    pub(crate) fn click(&self, selector: &str) -> Result<()> {
        self.with(selector, |element| async move { element.click().await })
    }

    /// Types into a field, in place of what is there.
    pub(crate) fn fill(&self, selector: &str, text: &str) -> Result<()> {
        self.with(selector, |element| async move {
            element.clear().await?;
            element.send_keys(text).await
        })
    }

    fn with<F>(&self, selector: &str, what: impl FnOnce(WebElement) -> F + Send) -> Result<()>
    where
        F: Future<Output = thirtyfour::error::WebDriverResult<()>> + Send,
    {
        // What can be chosen is out of sight until the browser unfolds it.
        let shown = format!(
            "((it) => it && (it.closest('select') ?? it).checkVisibility())(document.querySelector({}))",
            json!(selector)
        );
        self.wait(&format!("with {selector}"), &shown)?;
        let done = self.browser.drive(|driver| async move {
            let element = driver.find(By::Css(selector)).await?;
            what(element).await
        });
        done.with_context(|| selector.to_owned())
    }

    /// Presses keys, whatever has the focus.
    pub(crate) fn press(&self, keys: &str) -> Result<()> {
        let pressed = self
            .browser
            .drive(|driver| async move { driver.action_chain().send_keys(keys).perform().await });
        Ok(pressed?)
    }

    /// What stands in the first element of those.
    pub(crate) fn text(&self, selector: &str) -> Result<String> {
        let selector = json!(selector);
        let text = self.run(&format!(
            "return document.querySelector({selector}).innerText"
        ))?;
        Ok(text.as_str().context("no text")?.to_owned())
    }

    /// The cells of each row of those.
    pub(crate) fn cells(&self, rows: &str) -> Result<Vec<Vec<String>>> {
        let rows = json!(rows);
        let cells = self.run(&format!(
            "return [...document.querySelectorAll({rows})].map(
                (row) => [...row.children].map((cell) => cell.innerText.trim()))"
        ))?;
        Ok(serde_json::from_value(cells)?)
    }

    /// When the answer to the last request for an address that ends so was there, by the system's clock.
    pub(crate) fn answered(&self, end: &str) -> Result<SystemTime> {
        let end = json!(end);
        let at = self.run(&format!(
            "const all = performance.getEntriesByType('resource');
             const last = all.findLast(({{ name }}) => name.endsWith({end}));
             return performance.timeOrigin + last.responseEnd"
        ))?;
        let milliseconds = at.as_f64().context("no time")?;
        Ok(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(milliseconds / 1e3))
    }

    /// How wide the page is, and by what light it is read.
    pub(crate) fn look(&self, width: u32, scheme: Scheme) -> Result<()> {
        let scheme = match scheme {
            Scheme::Light => "light",
            Scheme::Dark => "dark",
        };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.tell("Emulation.setEmulatedMedia", &media)?;
        self.tell("Emulation.setScrollbarsHidden", &json!({"hidden": true}))?;
        self.resize(width, HEIGHT)
    }

    fn resize(&self, width: u32, height: u32) -> Result<()> {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.tell("Emulation.setDeviceMetricsOverride", &size)
    }

    fn tell(&self, command: &str, parameters: &Value) -> Result<()> {
        self.browser.drive(|driver| async move {
            driver.cdp().send_raw(command, parameters).await?;
            Ok(())
        })
    }

    /// Takes a picture of all of it, from top to bottom: `screenshots/NAME.png`, beside Cargo's `debug`.
    pub(crate) fn picture(&self, name: &str) -> Result<()> {
        self.picture_to("html", name)
    }

    /// The same down to the end of an element.
    pub(crate) fn picture_to(&self, selector: &str, name: &str) -> Result<()> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("screenshots");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join(name).with_extension("png");
        let width = self.run("return innerWidth")?;
        let width = u32::try_from(width.as_u64().context("no width")?)?;
        // Whatever takes the height of the window takes none.
        self.resize(width, 1)?;
        let selector = json!(selector);
        let end = self.run(&format!(
            "const {{ bottom }} = document.querySelector({selector}).getBoundingClientRect();
             return Math.ceil(bottom + scrollY)"
        ))?;
        let height = u32::try_from(end.as_u64().context("no height")?)?;
        self.resize(width, height + MARGIN)?;
        let taken = self.browser.drive(|driver| async move {
            driver.execute_async(NEXT_FRAME, Vec::new()).await?;
            driver.screenshot(&file).await
        });
        self.resize(width, HEIGHT)?;
        Ok(taken?)
    }

    /// Warnings and errors that the browser has noted since this was asked last: of scripts, of what could not be
    /// loaded, of what the policy of the server forbids.
    pub(crate) fn complaints(&self) -> Result<Vec<String>> {
        let entries = self
            .browser
            .drive(|driver| async move { driver.browser_log().await })?;
        let is_bad = |level: &str| ["SEVERE", "WARNING"].contains(&level);
        // There is no TLS here.
        let is_expected =
            |message: &str| message.contains("Cross-Origin-Opener-Policy header has been ignored");
        Ok(entries
            .into_iter()
            .filter(|entry| is_bad(&entry.level) && !is_expected(&entry.message))
            .map(|entry| format!("{}: {}", entry.level, entry.message))
            .collect())
    }

    /// Ends the browser. Fails if it has complained.
    pub(crate) fn close(self) -> Result<()> {
        let complaints = self.complaints()?;
        ensure!(complaints.is_empty(), "{complaints:#?}");
        self.browser.quit()
    }
}
