from tests.sweeps.record.test_failing_disk import *
from tests.sweeps.record.test_failing_disk import _in_a_folder, _measured_once, _ledger_written_twice
from tests.sweeps.conftest import run_cli
def test_count(run_cli, capsys, undisturbed):
    with capsys.disabled():
        w=[o for o in undisturbed.done if o.what=="write"]
        print("COUNT", len(undisturbed.done), len(spread(undisturbed.done)), len(w), len(w[::len(w)//8]))
