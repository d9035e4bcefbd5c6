"""What counts as an application, and how it gets its settings."""

from __future__ import annotations

import pytest

from runtime import GenServer, Misuse
from supervisors import Application, Supervisor, check_settings
from supervisors.application import as_application


class Shop(Supervisor):
    """An application's top."""


class Till(GenServer):
    """Any behaviour can be one."""


def by_class(_settings):
    """A function that returns a class."""
    return Shop


def by_record(settings):
    """A function that returns a record made of its settings."""
    return Application(Shop, (settings["a"],), "named")


def test_classes_records_and_functions_are_applications():
    """A behaviour's class, an Application, and a function that returns either."""
    assert as_application(Shop, {}) == Application(Shop)
    assert as_application(Till, {}) == Application(Till)
    assert as_application(Application(Shop, (1,)), {}) == Application(Shop, (1,))
    assert as_application(by_class, {"a": "1"}) == Application(Shop)
    assert as_application(by_record, {"a": "1"}) == Application(Shop, ("1",), "named")


def test_an_application_is_called_by_its_name_or_its_class():
    """Its id in the tree is its name, else that of its class."""
    assert [Application(Shop).label, Application(Shop, name="room").label] == ["Shop", "room"]


@pytest.mark.parametrize("thing", [None, 3, "Shop", Shop.__name__, int, lambda settings: 3, lambda settings: None])
def test_anything_else_is_none(thing):
    """What is neither a behaviour, nor a record, nor makes one, is refused."""
    with pytest.raises(Misuse, match="wanted a"):
        as_application(thing, {})


def test_settings_that_nobody_takes_are_refused():
    """Settings for an application that is no function would be lost, so they are refused."""
    for thing in (Shop, Application(Shop)):
        with pytest.raises(Misuse, match="Shop takes no settings, got a, b"):
            as_application(thing, {"b": "1", "a": "2"})


def test_an_unknown_setting_is_told_which_one_was_meant():
    """check_settings refuses what an application does not know, with the nearest name that it does."""
    check_settings({"tables": "2"}, ("tables", "listen"))
    with pytest.raises(Misuse, match="there is no setting 'tabels': did you mean 'tables'"):
        check_settings({"tabels": "2"}, ("tables", "listen"))
    with pytest.raises(Misuse, match="there is no setting 'x': there are: none"):
        check_settings({"x": "2"}, ())
