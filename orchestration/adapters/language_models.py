"""Language models: Gemini through Google's client, and any server with OpenAI's `/chat/completions`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestration.adapters.exchange import excerpt
from orchestration.adapters.http import HttpClient, HttpReply, require_plain_url
from orchestration.adapters.secret_files import read_secret
from orchestration.analysis.ports import BusyError
from orchestration.analysis.prompt import Prompt
from orchestration.promotion.in_thread import in_thread
from orchestration.promotion.problems import DependencyError, InvalidInputError, Problem

ANSWER_SECONDS = 90.0
"""For one whole answer; a model that thinks first may take a minute."""
ANSWER_TOKENS = 4096
"""The thoughts of a model that thinks first count, too."""
_TEMPERATURE = 0.2
_EXPECTED = "an answer about the alert"
_KEY = "the key of the language model"
_KEY_SETTING = "INCUMBENT_ANALYSIS_KEY_FILE"
_CHECK = "Check the key, the name of the model and its quota; the facts do not depend on it."


class Gemini:
    """Implements the `LanguageModel` port with Google's client, which is imported when it is first asked."""

    def __init__(self, model: str, key_file: Path, url: str | None = None, seconds: float = ANSWER_SECONDS) -> None:
        """Connect nowhere yet.

        Args:
            model: The model's name, such as `gemini-flash-latest`.
            key_file: A file with the key, which is read for each question.
            url: Another address than Google's.
            seconds: For one whole answer.
        """
        self._model, self._key_file, self._url, self._seconds = model, key_file, url, seconds

    def __str__(self) -> str:
        return self._model

    def ask(self, prompt: Prompt) -> str:
        """Ask once; the port says what is raised.

        Raises:
            InvalidInputError: Google's client is not installed.
        """
        key = read_secret(self._key_file, _KEY, _KEY_SETTING)
        genai = _google_client()
        types, errors = genai.types, genai.errors
        options = types.HttpOptions(
            base_url=self._url,
            timeout=int(self._seconds * 1000),
            retry_options=types.HttpRetryOptions(attempts=1),
        )
        config = types.GenerateContentConfig(
            system_instruction=prompt.instructions, temperature=_TEMPERATURE, max_output_tokens=ANSWER_TOKENS
        )
        client = genai.Client(api_key=key, vertexai=False, http_options=options)
        try:
            # In a thread: the client bounds the silence between two bytes, and not the whole.
            answer = in_thread(
                lambda: client.models.generate_content(model=self._model, contents=prompt.data, config=config)
            ).result(timeout=self._seconds)
        except errors.APIError as error:
            raise self._refused(error, key) from None  # its own text may quote what was sent
        except Exception as error:  # noqa: BLE001 - its transport has several, as have answers that it cannot read
            raise self._problem(f"{type(error).__name__}: {error}", key) from None
        return self._text(answer)

    def _text(self, answer: Any) -> str:
        blocked = getattr(answer.prompt_feedback, "block_reason", None)
        if blocked is not None:
            raise self._problem(f"a question that it blocks ({_name(blocked)})")
        candidate = next(iter(answer.candidates or ()), None)
        return self._whole(
            answer.text if candidate is not None else "", _name(getattr(candidate, "finish_reason", None))
        )

    def _whole(self, text: str | None, finished: str) -> str:
        if finished == "MAX_TOKENS":
            raise self._problem(f"one that was cut after {ANSWER_TOKENS} tokens")
        if finished not in ("STOP", ""):
            raise self._problem(f"one that was withheld ({finished})")
        if not text or not text.strip():
            raise self._problem("an empty one")
        return text

    def _refused(self, error: Any, key: str) -> DependencyError:
        found = f"HTTP {error.code}: {error.message or error.status or 'no reason'}"
        problem = self._problem(found, key)
        if error.code != 429:
            return problem
        headers = getattr(error.response, "headers", None) or {}
        return BusyError(problem.problem, _seconds(headers.get("retry-after")) or _retry_delay(error.details))

    def _problem(self, found: str, key: str = "") -> DependencyError:
        shown = excerpt(found, [key] if key else [])
        return DependencyError(Problem(f"language model {self._model}", _EXPECTED, shown, _CHECK))


class ChatCompletions:
    """Implements the `LanguageModel` port with a server like OpenAI's, such as vLLM or Ollama."""

    def __init__(self, url: str, model: str, key_file: Path | None = None, seconds: float = ANSWER_SECONDS) -> None:
        """Connect nowhere yet.

        Args:
            url: The address that `/chat/completions` follows, such as `http://127.0.0.1:11434/v1`.
            model: The model's name.
            key_file: A file with the key, which is read for each question; None where the server asks for none.
            seconds: For one whole answer.

        Raises:
            InvalidInputError: the address is not http(s), or carries a password.
        """
        self._url = require_plain_url("setting INCUMBENT_ANALYSIS_URL", url)
        self._model, self._key_file, self._seconds = model, key_file, seconds
        self._key = ""
        self._http = HttpClient(
            f"language model {model} at {self._url}", _CHECK, lambda: [self._key] if self._key else []
        )

    def __str__(self) -> str:
        return self._model

    def ask(self, prompt: Prompt) -> str:
        """Ask once; the port says what is raised."""
        if self._key_file is not None:
            self._key = read_secret(self._key_file, _KEY, _KEY_SETTING)
        question = {
            "model": self._model,
            "messages": [
                {"role": "system", "content": prompt.instructions},
                {"role": "user", "content": prompt.data},
            ],
            "temperature": _TEMPERATURE,
            "max_tokens": ANSWER_TOKENS,
        }
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        content = json.dumps(question).encode()
        reply = self._http.send(
            "POST", f"{self._url}/chat/completions", content=content, headers=headers, timeout=self._seconds
        )
        if reply.status == 429:
            busy = self._http.unexpected(reply, _EXPECTED)
            raise BusyError(busy.problem, _seconds(reply.headers.get("retry-after")))
        if reply.status != 200:
            raise self._http.unexpected(reply, _EXPECTED)
        return self._text(reply)

    def _text(self, reply: HttpReply) -> str:
        choices = reply.document.get("choices") if isinstance(reply.document, dict) else None
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
        message = choice.get("message") if choice is not None else None
        if choice is None or not isinstance(message, dict):
            raise self._http.unexpected(reply, _EXPECTED)
        text, finished = message.get("content"), choice.get("finish_reason")
        if finished == "length":
            raise self._http.failure(f"one that was cut after {ANSWER_TOKENS} tokens", _EXPECTED)
        if finished == "content_filter" or message.get("refusal"):
            raise self._http.failure("one that was withheld", _EXPECTED)
        if not isinstance(text, str) or not text.strip():
            raise self._http.failure("an empty one", _EXPECTED)
        return text


def _google_client() -> Any:
    try:
        import google.genai as genai
    except ImportError as error:
        found = f"no such package ({error})"
        next_step = (
            "Install it (pip install 'incumbent[gemini]'), or set INCUMBENT_ANALYSIS_URL to another model's server."
        )
        raise InvalidInputError(
            Problem("Google's client google-genai", "an installed package", found, next_step)
        ) from error
    return genai


def _name(reason: object) -> str:
    return str(getattr(reason, "value", reason or ""))


def _seconds(header: object) -> float | None:
    """Read a `Retry-After` in seconds; None for a date or nothing."""
    return float(header) if isinstance(header, str) and re.fullmatch(r"\d{1,6}", header) else None


def _retry_delay(details: object) -> float | None:
    """Read how long Google asks to wait, from the `RetryInfo` of its error."""
    error = details.get("error", details) if isinstance(details, Mapping) else {}
    listed = error.get("details") if isinstance(error, Mapping) else None
    for each in listed if isinstance(listed, list) else ():
        delay = each.get("retryDelay") if isinstance(each, Mapping) else None
        if isinstance(delay, str) and (match := re.fullmatch(r"(\d{1,6}(?:\.\d{1,9})?)s", delay)):
            return float(match[1])
    return None
