"""The engine as a whole: whether it can paint at all."""

from __future__ import annotations

from cloudbrush.engine import Engine


def test_an_engine_serves_until_it_is_closed() -> None:
    engine = Engine(device="cpu")
    try:
        assert engine.serves
    finally:
        engine.close()
    assert not engine.serves
