"""`bench serve` as a process of its own, over the embedded model."""

from __future__ import annotations

import re
import signal
import threading
import time
from pathlib import Path

import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI

from engines.registry import TINY, EngineOptions, open_engine
from ensemble.plan import DomainTreatment, Plan, write_plan
from ensemble.router.keywords import DomainTerms, Keywords, write_keywords
from tests.helpers.forking import ForkServer


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    engine = open_engine(TINY, EngineOptions())
    path = tmp_path / "plans" / "made.yaml"
    write_keywords(path.with_suffix(".routes.yaml"), Keywords({"law": DomainTerms()}))
    law = {"law": DomainTreatment()}
    made = Plan(TINY, engine.info.digest, law, "made.routes.yaml", verdict="promoted")
    write_plan(path, made)
    engine.close()
    return tmp_path


@pytest.mark.slow
def test_it_answers_until_sigterm_comes(fork_server: ForkServer, workspace: Path) -> None:
    argv = ("-m", "bench", "serve", "--port", 0, "--workspace", workspace)
    with fork_server.start(*argv, stdout=None) as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if line.startswith("serving"))
        url = re.search(r"http://\S+", said)[0]
        client = openai.OpenAI(base_url=url, api_key="any", max_retries=0, timeout=60)
        asked = [{"role": "user", "content": "Which plant part takes up water?"}]
        settings = {
            "model": "auto",
            "messages": asked,
            "max_tokens": 8,
            "temperature": 1,
            "seed": 3,
        }
        first, again = (client.chat.completions.create(**settings) for _ in range(2))
        assert first.choices[0].message.content == again.choices[0].message.content
        assert first.usage.completion_tokens == 8
        stream = client.chat.completions.create(**settings, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert text == first.choices[0].message.content
        top = client.completions.create(model="base", prompt="Water is", logprobs=3, max_tokens=1)
        assert len(top.choices[0].logprobs.top_logprobs[0]) == 3
        tool = {"type": "function", "function": {"name": "weather", "parameters": {}}}
        with pytest.raises(openai.BadRequestError, match="leaves out the list of tools"):
            client.chat.completions.create(**settings, tools=[tool])
        client.close()
        with httpx.Client(timeout=60) as http:
            chat = ChatOpenAI(
                base_url=url, api_key="any", model="auto", max_tokens=8, http_client=http
            )
            assert "".join(str(piece.content) for piece in chat.stream("What is a leaf?"))
            # Whoever goes away frees the place: replies without an end would fill the machine.
            for _ in range(20):
                body = {"messages": asked, "stream": True, "temperature": 2}
                with http.stream("POST", f"{url}/chat/completions", json=body) as endless:
                    next(endless.iter_lines())
            began = time.monotonic()
            http.post(f"{url}/chat/completions", json={"messages": asked, "max_tokens": 8})
            assert time.monotonic() - began < 10

        ends: list[str] = []

        def until_the_end() -> None:
            body = {"messages": asked, "stream": True, "temperature": 2, "seed": 1}
            ends.append(httpx.post(f"{url}/chat/completions", json=body, timeout=60).text)

        thread = threading.Thread(target=until_the_end)
        thread.start()
        time.sleep(0.5)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
        thread.join()
        assert time.monotonic() - started < 8
        assert "[DONE]" in ends[0] or "the server is stopping" in ends[0]
