"""Plants known bugs, one at a time, in a copy of the checkout, and says whether the suite notices.

    python tests/planted_bugs.py                   all of them (hours), into docs/planted-bugs.md
    python tests/planted_bugs.py NAME NAME …       these only
    python tests/planted_bugs.py --quick           only the tests named beside each bug, not the whole suite after them
    python tests/planted_bugs.py --check           plant nothing; fail if a place is no longer found once

`old` is looked for in the whole package, so code that is moved needs no change here. Keep it short and characteristic.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "planted-bugs.md"
JOBS = os.environ.get("JOBS", "3")
LONGEST = 1800
"""Seconds: a bug may let a test wait for ever."""


class Bug(NamedTuple):
    """A fault that somebody could make: the promise it breaks, the text it changes, the tests that should notice."""

    name: str
    promise: str
    old: str
    new: str
    tests: tuple[str, ...]


E, W, B, P, A = "tests/extract/", "tests/warehouses/", "tests/bulk_run/", "tests/pipeline/", "tests/api/"
PLAN = "tests/bulk_plan/"

BUGS = [
    # -- extraction: docs/extraction.md and README, "Why this one"
    Bug("a total is not compared", "a total that does not agree is never called complete",
        "return newest.missing == -len(self._unlisted) and newest.total in self._believed_totals",
        "return newest.missing is not None", (E + "test_extraction.py::test_a_total_that_never_agrees_is_not_called_complete",)),
    Bug("an unproven run ends with 0", "not provably complete: exit code 5",
        "complete=summary.complete and not unproven and summary.api_total in {None, whole}",
        "complete=True", (P + "test_customers_command.py::test_a_copy_that_does_not_add_up_ends_with_5",)),
    Bug("no walk by cursor", "a window whose pages lack customers is read by cursor",
        'if reading.passes[-1] == "cursor":', "if True:", (E + "test_extraction.py::test_a_window_whose_pages_lack_customers_is_read_by_cursor",)),
    Bug("customers outside a window are no sign", "filters that do not filter are noticed",
        "if reading.stray and (reading.is_range or far):", "if False:", (E + "test_extraction.py::test_filters_that_do_not_filter_are_noticed_and_remembered",)),
    Bug("filters are never tried again", "filters that did not filter are tried again after a week",
        "abs(self._started - filters_ignored_at) <= TRY_FILTERS_AGAIN", "True", (E + "test_extraction.py::test_filters_that_did_not_filter_are_tried_again_after_a_week",)),
    Bug("windows stay larger than the API shows", "where pages from some number on are refused, windows are so small that none of theirs is",
        "self.deepest = min([self.deepest, *reading.last_pages()])", "pass", (E + "test_extraction.py::test_windows_are_as_small_as_an_api_wants_that_refuses_high_page_numbers",)),
    Bug("a run forgets which pages are refused", "the same, without reading twice what an earlier run has learned",
        'state["deepest_page"] = self._reader.deepest if', 'state["deepest_page"] = None if', (P + "test_copying.py::test_a_run_knows_from_the_one_before_which_page_numbers_are_refused",)),
    Bug("nobody asks who is older", "a list that ends at a number of customers, and counts no more, is never called complete",
        "second(oldest))] if oldest and self.to_ask else []", "second(oldest))] if False else []", (E + "test_extraction.py::test_a_list_that_ends_at_a_number_and_counts_no_more_is_never_called_complete",)),
    Bug("a killed run asks nobody who is older", "a killed run does not forget to ask who is older",
        "if self.to_ask and BEGIN in window and result.oldest:", "if False:", (E + "test_extraction.py::test_a_killed_run_does_not_forget_to_ask_who_is_older",)),
    Bug("a row was seen when its page arrived", "a bulk run is newer than a page that was asked for before it",
        "asked = min((page.asked_at for page in pages if page.asked_at), default=self.now())", "asked = self.now()", (B + "test_copies.py::test_a_page_that_was_asked_for_before_a_run_does_not_look_newer_than_the_run",)),
    Bug("an overwritten run counts as held", "a copy that an older page overwrote gets the run again",
        "lost, complete = self._overwritten(), self._completed_loads()", "lost, complete = set(), self._completed_loads()", (B + "test_copies.py::test_a_page_that_was_asked_for_before_a_run_does_not_look_newer_than_the_run",)),
    Bug("a run of a load that broke off counts as held", "a copy that lacks a run is not believed: a load that broke off",
        "and run not in lost and load_id in complete", "and run not in lost", (B + "test_copies.py::test_a_load_that_broke_between_its_tables_is_not_taken_for_whole",)),
    Bug("Ctrl-C waits for reads", "Ctrl-C ends what only reads within a second",
        "socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)", "pass", (A + "test_stopping.py::test_a_read_that_nobody_wants_any_longer_is_not_waited_for",)),
    Bug("a version for another spelling", "history has every version once",
        'memory.register("customers", _normalized_json(customers))', 'memory.register("customers", customers)', (P + "test_history_details_refresh.py::test_json_that_the_destination_spells_otherwise_is_no_other_version",)),
    Bug("a customer is loaded twice", "nothing is doubled: the table has one row per customer",
        '"replace" if full_refresh else MERGED', '"replace" if full_refresh else "append"', (P + "test_copying.py::test_edits_of_old_customers_arrive_within_the_stated_number_of_runs",)),
    Bug("rows that the warehouse lost stay away", "rows that the warehouse lost come back",
        "rows = held.count(windows, unlisted)", "rows = [item.rows for item in coverage]", (E + "test_extraction.py::test_rows_that_the_warehouse_lost_are_read_again",)),
    Bug("who vanished before a load stays unmarked", "who vanishes is marked",
        "if (self._vanished | self._unlisted) & self.held.emitted:", "if False:", (E + "test_extraction.py::test_one_who_vanishes_while_a_first_load_is_read_is_marked_by_it_or_never_counted",)),
    Bug("a list that is behind marks the newest", "a replica that is behind marks nobody, and is not called complete",
        "        if self._is_behind(newest):", "        if False:", (E + "test_extraction.py::test_a_list_that_is_older_than_the_copy_marks_nobody_and_is_not_called_complete",)),
    Bug("what waits for one destination goes into another", "what waits for one destination is not loaded into another, whose customers may be another account's",
        "    if run and run.state_is_foreign:", "    if False:", (W + "test_several_sources.py::test_what_waits_for_one_destination_is_not_loaded_into_another",)),
    Bug("dlt deletes a database with its folder", "a DuckDB file in dlt's folder is kept where dlt deletes the folder",
        "    if would_delete_database(pipeline):", "    if False:", (P + "test_copying.py::test_a_database_in_dlts_folder_is_kept_where_dlt_deletes_that_folder",)),
    Bug("rows of others are dropped", "a load that another machine overtook takes no rows of the user's along",
        "    require_no_other_rows(folder, customers_table(pipeline))", "    pass", (W + "test_dlt_users.py::test_rows_of_other_tables_are_not_dropped_with_customers_whom_another_machine_overtook",)),
    Bug("a full refresh believes a list that is behind", "a full refresh is not made from a list that is older than the copy",
        "lacking = self._unlisted | (self.held.replaced(newest.day) - self.held.emitted)", "lacking = self._unlisted", (P + "test_history_details_refresh.py::test_a_full_refresh_is_not_made_from_a_list_that_is_behind",)),
    Bug("old values come back", "what another machine loaded later stays",
        'if step == "load" and is_overtaken(pipeline):', "if False:", (W + "test_dlt_users.py::test_an_extraction_that_another_machine_overtook_puts_no_old_values_back",)),
    Bug("who is not shown is not marked", "who vanishes is marked",
        "self._unlisted |= held - result.ids - self._undated", "pass", (E + "test_extraction.py::test_a_customer_who_vanishes_is_marked_and_kept_and_unmarked_when_back",)),
    Bug("the budget is passed", "the budget holds; every customer is read again inside it",
        "left -= price", "pass", (E + "test_extraction.py::test_every_customer_is_read_again_within_the_stated_runs_and_budget", E + "test_extraction.py::test_the_budget_holds_where_pages_are_shorter_than_was_asked_for")),
    Bug("nothing is read again", "edits of old customers arrive within the stated number of runs",
        "if self.summary.complete and self.refresh_budget:", "if False:", (E + "test_extraction.py::test_every_customer_is_read_again_within_the_stated_runs_and_budget",)),
    Bug("another account is let in", "another account never gets into the same dataset (law 2)",
        "check_account(self.held, table, total, self.account)", "pass", (E + "test_extraction.py::test_another_account_in_the_same_dataset_is_refused_before_anything_is_stored",)),
    Bug("the range ends late", "a range takes just its customers",
        "{self.col('created_at')} < {self._time(window.hi)}", "{self.col('created_at')} <= {self._time(window.hi)}",
        (P + "test_copying.py::test_a_range_takes_just_its_customers",)),
    Bug("a full refresh is swapped in unproven", "a full refresh is swapped in only when it is proven complete",
        "if not self.done or self.failure or extraction.summary.complete:", "if self.full_refresh or not self.done or self.failure:",
        (P + "test_history_details_refresh.py::test_a_full_refresh_that_does_not_add_up_changes_nothing",)),
    Bug("the plain source keeps what is unproven", "one engine behind every door (law 3)",
        "if self.limits is None and not self.allow_incomplete:", "if False:", (P + "test_source.py::test_a_run_that_cannot_be_proven_complete_fails_and_loads_nothing_unless_it_may",)),
    Bug("a version is stored at each look", "history has every version once",
        "latest.get(number) != fingerprint", "True", (P + "test_history_details_refresh.py::test_history_has_every_version_once_also_when_it_is_begun_later",)),
    Bug("an ended version stays open", "history has every version once",
        'for name in ("_valid_to", "_last_seen_at"):', 'for name in ("_last_seen_at",):',
        (P + "test_history_details_refresh.py::test_history_has_every_version_once_also_when_it_is_begun_later",)),
    Bug("what is read before an error is thrown away", "checkpoints; a crash loses at most the current one (law 8)",
        "if self.limits is None or not (rows or self._new_entries):", "if True:", (P + "test_copying.py::test_what_was_read_before_an_error_is_loaded",)),
    Bug("a load of any number of customers", "a first copy fits into memory",
        " or rows >= self.limits.most_rows", "",
        (P + "test_copying.py::test_a_large_load_ends_inside_a_window_and_duckdb_gives_its_memory_back_after_it",)),
    Bug("a killed load is forgotten", "the next run goes on by itself (law 8)",
        "if pipeline.has_pending_data:  # a first", "if False:  # a first",
        (W + "test_interrupted.py::test_interrupted_at_any_step_the_next_run_goes_on", P + "test_copying.py::test_long_metadata_fits_into_memory_also_after_a_kill")),
    Bug("what can never be loaded is tried for ever", "the next run goes on by itself (law 8)",
        "_drop_unloadable(pipeline, error)\n    _check", "raise\n    _check", (W + "test_dlt_users.py::test_a_load_that_can_never_be_loaded_is_read_again",)),
    Bug("the database goes with dlt's damaged files", "a copy in dlt's folder outlives dlt's files",
        "inside.replace(aside)", "pass", (P + "test_copying.py::test_a_file_of_dlts_that_a_power_cut_damaged_is_made_anew",)),
    Bug("a killed process keeps the database aside", "a copy in dlt's folder outlives dlt's files",
        "    restore_database(folder)\n\n\ndef make_pipeline", "\n\ndef make_pipeline", (P + "test_copying.py::test_a_database_in_dlts_folder_survives_a_kill_while_that_folder_is_made_anew",)),
    Bug("a database that a kill left replaces a newer one", "a copy in dlt's folder outlives dlt's files",
        "if inside.exists() and aside.exists():", "if False:", (P + "test_copying.py::test_a_database_that_was_made_since_such_a_kill_is_not_overwritten",)),
    Bug("what was normalized is normalized again", "the next run goes on by itself (law 8)",
        "            repair_folder(self.pipeline)\n", "", (W + "test_interrupted.py::test_a_kill_while_dlt_deletes_what_it_normalized_stops_no_later_run",)),
    Bug("a part of dlt's folder stays deleted", "the next run goes on by itself (law 8)",
        '(folder / "load/normalized").mkdir(exist_ok=True)', "pass",
        (W + "test_interrupted.py::test_a_kill_while_dlts_folder_is_deleted_stops_no_later_run",)),
    Bug("dlt's folder is deleted file by file", "the next run goes on by itself (law 8)",
        "folder.rename(_deleted(folder))", "pass",
        (W + "test_interrupted.py::test_a_kill_while_dlts_folder_is_deleted_stops_no_later_run",)),
    Bug("a moved project loads into its former folder", "a claim names its scope: loaded is said of a place (law 2)",
        'pipeline.destination.config_params["local_dir"] = folder', "pass",
        (P + "test_place.py::test_files_move_with_their_project_and_iceberg_says_why_it_cannot",)),
    Bug("a copied Iceberg table writes into the one it was copied from", "a claim names its scope: loaded is said of a place (law 2)",
        "for each in (here, made)}) > 1:", "for each in (here, made)}) > 2:",
        (P + "test_place.py::test_files_move_with_their_project_and_iceberg_says_why_it_cannot",)),
    Bug("customers who were read again are left out", "a claim names its scope: proven is what is loaded (law 2)",
        '("merge_key", "incremental")', '("merge_key",)', (W + "test_dlt_users.py::test_a_hint_by_which_a_load_deletes_others_or_leaves_them_out_is_refused",)),
    Bug("a ledger without its customers", "a claim names its scope: proven is what is loaded (law 2)",
        "if not is_selected(CUSTOMERS.name):", "if False:", (W + "test_dlt_users.py::test_what_is_about_customers_is_not_loaded_without_them",)),
    Bug("iterating in somebody's load counts as a load of ours", "a claim names its scope: proven is what is loaded (law 2)",
        "frame.f_back.f_code is ManagedPipeIterator.__next__.__code__", "False",
        (P + "test_source.py::test_a_resource_of_the_user_that_iterates_gets_everybody_and_changes_no_proof",)),
    Bug("a temporary file is taken for a package", "killed while dlt writes a file, the next run goes on by itself (law 8)",
        "if file.is_file() and not file.suffix:", "if False:",
        (W + "test_interrupted.py::test_temporary_files_that_a_kill_left_among_dlts_packages_stop_no_later_run",)),
    Bug("an interrupted load goes on where dlt stopped", "interrupted at any step, the next run goes on by itself (law 8)",
        "if is_ours(schema) and _has_begun(package):", "if False:", (W + "test_interrupted.py::test_what_was_read_before_a_kill_is_loaded_and_not_read_again",)),
    Bug("what is staged twice is kept twice", "a kill at the plain door doubles nobody",
        '"delete-insert" if "delete-insert" in strategies else "upsert"', '"upsert"', (W + "test_interrupted.py::test_a_merge_doubles_nobody_who_was_staged_twice",)),
    Bug("two machines fill one database at once", "two machines at once double nobody",
        "self.still_held = _lock_schema(self.locks, self.pipeline)", "pass", (W + "test_interrupted.py::test_two_machines_at_once_double_nobody_and_both_end_well",)),
    Bug("two machines fill one bucket at once", "two machines at once double nobody",
        "self.still_held = _lock_files(self.locks, self.pipeline)", "pass", (W + "test_interrupted.py::test_two_machines_at_once_double_nobody_and_both_end_well[delta-s3]",)),
    Bug("a lost lease of a bucket is renewed", "machines whose clocks differ take the lock one after the other",
        "self._held_until = asked + LEASE_SECONDS if self._is_highest() else 0.0", "self._held_until = asked + LEASE_SECONDS", (W + "test_bucket_lease.py::test_no_two_hold_it_however_they_interleave_and_it_is_taken_again",)),
    Bug("an expired lease of a bucket is given to two", "two machines at once double nobody",
        "if owner_is_back or not self._is_highest():", "if False:", (W + "test_bucket_lease.py",)),
    Bug("a run is told to the warehouse at its end only", "a plan is applied once, on every machine",
        "other = claim(self.warehouse, run)", "other = None", (B + "test_once.py::test_another_machine_does_not_apply_what_may_not_be_sent_twice",)),
    Bug("a warehouse out of reach stops an apply", "with a register, a warehouse that cannot be reached stops no apply",
        "if lock.problem is not None and not BULK", "if not BULK",
        (B + "test_once.py::test_with_a_register_a_warehouse_that_cannot_be_reached_stops_no_apply",)),
    Bug("a run that never began is resumed unasked", "a plan is applied once, on every machine",
        "            self._claim(run, plan, lock)\n            finished", "            finished", (B + "test_once.py::test_a_run_that_was_interrupted_before_the_warehouse_had_it_goes_on_unless_another_machine_was_faster",)),
    Bug("forked processes read each other's answers", "an answer is of the request that it is taken for",
        "os.register_at_fork(after_in_child=_reset_all)", "pass", (A + "test_exchanges.py::test_forked_processes_share_no_connection_and_wait_for_no_thread_of_their_parent",)),
    Bug("a forked process waits for a thread of its parent", "nothing waits for ever",
        "os.register_at_fork(after_in_child=DUCKDB_FILES._at_fork_reinit)", "pass", (B + "test_killed.py::test_a_forked_process_does_not_wait_for_a_thread_of_its_parent_that_reads_the_copy",)),
    Bug("a load goes on without its lock", "who lost the lock stops before the load is complete",
        'self.pipeline.collector = cast("Any", CheckedCollector(collector, self.require_dataset))', "pass", (W + "test_bucket_lease.py",)),
    Bug("a plain run does not count what it loaded", "one engine behind every door (law 3)",
        "if run is None or run.depth > 1 or run.copied is None:", "if True:", (P + "test_source.py::test_a_run_counts_the_destination_at_its_end_and_shows_the_user_no_load_of_its_own",)),
    Bug("a plain run without preparation takes what is doubled", "a green run with missing rows is none (law 3)",
        "if (run is None or not run.prepared) and any(", "if False and any(", (P + "test_source.py::test_where_dlt_tells_nothing_of_a_run_a_dataset_that_needs_repair_is_refused",)),
    Bug("a doubled dataset stays doubled", "a dataset that is doubled is noticed and mended",
        "_repair(pipeline, schema)\n", "pass\n", (W + "test_interrupted.py::test_what_an_earlier_version_doubled_or_lost_is_mended",)),
    Bug("a new pipeline takes the copy's schema", "somebody else's pipeline stays as it is",
        "if stored is not None and not completed_loads(pipeline, stored.loads_table_name, SCHEMA_NAME):", "if stored is not None:",
        (W + "test_interrupted.py::test_a_pipeline_of_somebody_else_in_the_same_dataset_stays_as_it_is",)),
    Bug("an error of the preparation is only logged", "one engine behind every door (law 3)",
        "            run.error = error\n", "", (W + "test_interrupted.py::test_a_preparation_that_fails_stops_the_plain_source_before_it_reads",)),
    Bug("a cut parts customers of one second", "windows are cut between seconds",
        "cuts = sorted({second(time) + timedelta(seconds=1) for time in times})", "cuts = sorted(set(times))",
        (E + "test_windows.py",)),
    Bug("a BVN in clear in customer_details", "BVN and account numbers rest nowhere in clear",
        'r"(^|_)(bvn|nin|iban|nuban|pan)$"', 'r"(^|_)(nin|iban|nuban|pan)$"',
        (P + "test_history_details_refresh.py::test_numbers_of_identity_and_accounts_are_masked_wherever_they_stand",)),
    Bug("a card's code in the details", "authorization codes are not in the copy unless asked for by name",
        "(authorization_code|access_code|signature|", "(access_code|signature|",
        (P + "test_history_details_refresh.py::test_details_hold_what_the_server_holds_and_no_credential",)),
    Bug("keys are masked as they are spelled", "numbers of people and accounts are masked by the class of their key",
        'words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key)', "words = key",
        (P + "test_history_details_refresh.py::test_numbers_of_identity_and_accounts_are_masked_wherever_they_stand",)),
    Bug("an identity without a type is in clear", "numbers of people and accounts are masked by the class of their key",
        "of_identity = of_identity or bool(_OF_IDENTITY.search(words))", "pass",
        (P + "test_history_details_refresh.py::test_numbers_of_identity_and_accounts_are_masked_wherever_they_stand",)),
    Bug("amounts are masked", "amounts are never masked",
        '(of_identity and words == "value")', 'words == "value"',
        (P + "test_history_details_refresh.py::test_numbers_of_identity_and_accounts_are_masked_wherever_they_stand",)),
    Bug("a list row's numbers are in clear", "numbers of people and accounts are masked in list rows too",
        "value = without_secrets(value, key=key)  # noqa: PLW2901", "pass",
        (E + "test_arrow.py::test_credentials_and_numbers_of_people_come_into_no_row_whatever_they_are_called",)),
    Bug("who cannot be fetched comes first again", "one customer whose details fail blocks nobody else",
        'THEN 0 ELSE 1 END, " if has_failures', 'THEN 0 ELSE 0 END, " if has_failures',
        (P + "test_history_details_refresh.py::test_one_who_cannot_be_fetched_keeps_nobody_else_from_it_and_is_tried_again",)),
    Bug("who cannot be fetched is given up", "whose details fail is tried again by later runs",
        'IS NOT NULL"] if has_failures else []', 'IS NOT NULL"] if False else []',
        (P + "test_history_details_refresh.py::test_one_who_cannot_be_fetched_keeps_nobody_else_from_it_and_is_tried_again",)),
    Bug("who cannot be fetched has no cards any more", "what an earlier run fetched stays",
        "            for fetched in batch\n            if fetched.failure is None\n", "            for fetched in batch\n",
        (P + "test_history_details_refresh.py::test_one_who_cannot_be_fetched_keeps_nobody_else_from_it_and_is_tried_again",)),
    Bug("failures far apart end the run", "forty failures in a row end the run, and no others",
        "in_a_row + 1 if failure else 0", "in_a_row + bool(failure)", (P + "test_history_details_refresh.py::test_where_nobody_can_be_fetched_the_run_says_why",)),
    Bug("details of somebody else are stored", "an answer is about whom was asked",
        'str(answer.get("id", one.id)) != str(one.id)', "False",
        (P + "test_history_details_refresh.py::test_details_are_kept_for_whom_and_for_when_the_answer_is",)),
    Bug("`updated_at` is a change", "only a change moves _changed_at",
        ' and name != "updated_at"', "", (P + "test_changes.py",)),
    Bug("a change is older than what was seen", "each load has a later _changed_at than every load before it",
        "if self._latest and self._latest >= now:", "if False:", (P + "test_changes.py",)),
    Bug("who was copied earlier counts as changed", "a copy of an earlier version goes on",
        "if not older:\n            return with_fingerprint", "if True:\n            return with_fingerprint", (P + "test_changes.py",)),
    Bug("the newest window ends now", "customers who arrive while it reads cost next to nothing",
        "return min(end, second(newest) + (_SECOND if since > _CLOCKS_DIFFER else -MARGIN - _SECOND))", "return end",
        (E + "test_oddities.py::test_those_who_arrive_while_it_reads_are_taken_from_the_newest_pages",)),
    Bug("nobody is looked for on the newest pages", "new customers cost their pages",
        "return range(2, deepest + 1)", "return range(0)", (E + "test_extraction.py::test_new_customers_cost_their_pages",)),
    Bug("columns are described at one door alone", "one engine behind every door (law 3)",
        "keeps_history)\n        write_comments(pipeline, our_schemas(pipeline))\n", "keeps_history)\n",
        (W + "test_comments.py",)),
    Bug("customers stay in staging", "after a load dlt's files and staging tables hold none",
        'for setting in ("load.delete_completed_jobs", "load.truncate_staging_dataset"):', 'for setting in ("load.delete_completed_jobs",):', ("tests/test_canary.py::test_no_customer_stays_in_dlts_folder_or_in_staging",)),
    # -- the client: SECURITY.md and docs/client.md
    Bug("a write is sent again", "writes are never retried blindly",
        "left = operation.writes and result.sent", "left = False",
        (A + "test_outcomes.py::test_a_write_that_left_is_never_sent_again",)),
    Bug("an early hint is the answer", "an answer is that of its own request",
        "HTTPStatus.CONTINUE if status < HTTPStatus.OK else status", "status",
        (A + "test_client.py::test_what_comes_before_an_answer_is_no_answer",)),
    Bug("bytes and NaN in metadata are sent as something else", "a value that JSON does not have is refused, not changed",
        'json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))', "__import__('msgspec').json.encode(value).decode()",
        (A + "test_client.py::TestWhatIsSent::test_what_cannot_be_right_is_refused_before_sending",)),
    Bug("a client that shall only read can write", "read_only is True or False, and nothing that a setting may hold instead",
        "flags(read_only=read_only)", "pass", (A + "test_client.py::TestWhatIsSent::test_options_out_of_range",)),
    Bug("a helper waits without a word", "a wait for the quota is shown at each door",
        "                    on_wait=waits,\n", "",
        (B + "test_helpers.py::test_waits_for_the_quota_are_shown_while_it_compares_and_while_it_sends",)),
    Bug("a wait that is over is shown", "what a display says is so now",
        "if self._clock() >= self._note_ends:", "if False:",
        ("tests/terminal/test_progress.py::test_a_wait_that_is_over_is_shown_no_longer_and_the_next_one_at_once",)),
    Bug("a fetch gets another customer", "an answer is about whom was asked",
        "str(shown).casefold() != email_or_code.strip().casefold()", "False", (A + "test_client.py::test_the_answer_of_another_customer_is_none",)),
    Bug("a write believes another customer's answer", "an answer about another customer is read back",
        "return asked.casefold() != shown.casefold()", "return False",
        (B + "test_runner.py::test_an_answer_with_another_value_or_about_another_customer_is_not_believed",)),
    Bug("an interrupt inside dlt is swallowed", "Ctrl-C before a run sends nothing",
        "def _failure_text(error: Exception) -> str:\n    raise_interrupt(error)", "def _failure_text(error: Exception) -> str:",
        (B + "test_audit.py::test_an_interrupt_while_the_copy_is_told_of_a_run_is_heard",)),
    Bug("dlt forgets a Ctrl-C", "Ctrl-C ends a run at each door",
        "runtime.intercept_signals = runtime.intercept_signals, False", "_ = runtime.intercept_signals, False",
        (P + "test_copying.py::test_ctrl_c_at_the_end_of_a_load_is_not_forgotten",)),
    Bug("the text no is true", "a setting of another type sends nothing",
        "_CHECKED.get(Settings.__annotations__[name].__forward_arg__, object)", "object", (B + "test_helpers.py",)),
    Bug("an interrupted copy is an error like any other", "Ctrl-C ends a loop over accounts",
        "        raise_interrupt(error)\n        if isinstance(error, A", "        if isinstance(error, A",
        (P + "test_copying.py::test_ctrl_c_is_one_although_dlt_makes_another_error_of_it",)),
    Bug("every creation time is thought to lie in a window", "who was created before 1970 is copied",
        "if not pc.all(_inside(table, ALWAYS)).as_py():", "if False:", (E + "test_oddities.py::test_a_time_before_every_window_loses_nobody",)),
    Bug("a number that no float holds", "one odd customer costs no other",
        "text if math.isinf(float(text)) else float(text)", "float(text)", (E + "test_arrow.py::test_a_number_that_no_float_holds_costs_no_other_customer",)),
    Bug("fifty new columns for each ten pages", "a table gets at most fifty new columns",
        "return arrow.parse([page.raw for page in pages], asked, self.new_columns)", "return arrow.parse([page.raw for page in pages], asked)",
        (P + "test_copying.py::test_a_key_for_each_customer_makes_fifty_columns_in_all",)),
    Bug("a walk goes on for ever", "a walk that finds nobody new ends",
        "barren = 0 if rows else barren + 1", "barren = 0", (A + "test_pages.py::test_a_walk_that_finds_nobody_new_ends",)),
    Bug("a create is timed by our clock", "who was just created did not exist before",
        'http_date(reply.headers.get("date")) or self.now()', "self.now()",
        (B + "test_runner.py::test_who_was_created_just_now_did_not_exist_whatever_our_clock_says",)),
    Bug("dlt names the dataset otherwise", "the copy is where the summary says",
        "if pipeline.dataset_name != dataset:", "if False:", (P + "test_place.py::test_a_dataset_that_dlt_calls_otherwise_is_refused_and_the_advice_helps",)),
    Bug("a history has two open versions", "history has every version once",
        "if table == HISTORY.name:  # two concurrent loads", "if False:  # two concurrent loads",
        (W + "test_dlt_users.py::test_versions_of_two_extractions_that_did_not_see_each_other_end_where_the_next_begins",)),
    Bug("columns are counted", "a column that somebody added hides no dropped one",
        "any(wanted[name] - columns.keys() for name, columns in", "any(len(columns) < len(wanted[name]) for name, columns in",
        (P + "test_copying.py::test_what_was_dropped_in_the_database_is_made_anew",)),
    Bug("a plan keeps the copy's file open", "a copy can be made while a plan reads customers live",
        "DROP VIEW held; DETACH DATABASE IF EXISTS copied", "DROP VIEW held", (PLAN + "test_plan.py::test_the_file_of_a_copy_is_read_while_it_is_written_and_written_while_customers_are_read",)),
    Bug("refresh drops what was loaded", "a pipeline that empties tables at each load keeps the copy",
        "refresh, pipeline.refresh = pipeline.refresh, None", "refresh = pipeline.refresh",
        (W + "test_dlt_users.py::test_a_pipeline_that_empties_tables_at_each_load_keeps_the_copy",)),
    Bug("any encoding of a database will do", "names arrive as they are, or the run says why not",
        'if server not in {"UTF8", "SQL_ASCII"}', "if not server", (W + "test_trouble.py::test_postgres_in_which_names_would_come_out_as_others",)),
    Bug("any encoding of a connection will do", "names arrive as they are, or the run says why not",
        'if connection != "UTF8"', "if not connection", (W + "test_trouble.py::test_a_connection_by_which_names_would_come_out_as_others",)),
    Bug("dlt keeps what was sent", "no BVN stays in dlt's folder after a load by the dlt destination",
        "delete_after_load(dlt.current.pipeline().pipeline_name)", "pass", (B + "test_destination.py::test_no_number_of_a_person_stays_in_dlts_folder_unless_the_user_says_so",)),
    Bug("an interrupted run never ends", "a Ctrl-C while dlt ends a run refuses no later run",
        "if run and run.awaits_end:", "if False:", (P + "test_copying.py::test_ctrl_c_while_dlt_ends_a_run_refuses_no_later_one",)),
    Bug("an interrupted statement keeps the database", "after a Ctrl-C in a statement of DuckDB the next run of the process begins",
        "# it is closed already\n        connection.interrupt()", "\n        pass", ("tests/test_interrupts.py::test_a_statement_of_duckdb_that_was_interrupted_lets_the_next_run_begin",)),
    Bug("all customers between two windows are compared", "a load of windows that lie years apart reads nobody between them",
        "np.diff(times) > (times[-1] - times[0]) / MOST_SPANS", "np.diff(times) < 0", (P + "test_changes.py::test_customers_who_lie_years_apart_are_compared_without_those_between",)),
    Bug("somebody else's table is loaded into", "a table of somebody else's is neither changed nor replaced",
        "if found is not None and not marks <= found:", "if False:", (W + "test_trouble.py::test_a_table_of_somebody_else_is_left_as_it_is",)),
    Bug("a version begins when it is read, whatever the clock", "versions of a customer follow each other also if a clock was ahead",
        "max(at, earlier[number] + timedelta(microseconds=1)) if number in earlier else at", "at",
        (P + "test_history_details_refresh.py::test_a_version_begins_after_the_one_before_it_also_if_a_clock_was_ahead",)),
    Bug("staging tables are not looked at", "tables that somebody dropped are created again",
        "if staged and _lacks_some(client, staged):", "if False:",
        (P + "test_copying.py::test_what_was_dropped_in_the_database_is_made_anew",)),
    Bug("any name is a field to include", "a misspelled field is refused",
        'if not (is_credential(field) or _NUMBER.search(field) or field == "value"):', "if False:",
        (P + "test_history_details_refresh.py::test_credentials_are_kept_when_asked_for_by_name",)),
    Bug("a clock that was ahead hides later changes", "later changes are seen after a run whose clock was ahead",
        '    "_changed_at": "_changed_at desc nulls last",', "", (W + "test_copy.py::test_every_warehouse_holds_what_paystack_holds[parquet-s3]",)),
    Bug("a live key to another host", "the key goes to no other host",
        'if key.mode != "test":', "if False:", (A + "test_hosts.py", P + "test_customers_command.py")),
    Bug("any host is taken", "another base URL only on loopback", "and _loopback(host)", "and True", (A + "test_hosts.py",)),
    Bug("the key is printed", "a key type that cannot be printed",
        'return f"sk_{self.mode}_…"', "return self.__text", (A + "test_privacy.py::test_a_key_cannot_be_printed_pickled_or_copied",)),
    Bug("a reading job may write", "the extract's client is read-only",
        "if OPERATIONS.get(operation.name) is operation and operation.name in self.allowed:",
        "if OPERATIONS.get(operation.name) is operation:", (A + "test_operations.py",)),
    Bug("an email stays in an error", "customer data stays out of errors", '"[email]"', r'r"\g<0>"', (A + "test_privacy.py",)),
    Bug("a path part is not quoted", "path parts are quoted", 'quote(part, safe="")', "part", (A + "test_operations.py",)),
    Bug("one request too many", "no request that would be refused", "used < self.limit:", "used <= self.limit:",
        (A + "test_quota.py",)),
    # -- bulk: docs/bulk.md
    Bug("no intent before a request", "intent on disk before each request",
        "EventKind.INTENT, now) for job in jobs if job.action is Action.SEND", "EventKind.INTENT, now) for job in ()",
        (B + "test_runner.py",)),
    Bug("a rejection after a doubt is believed", "a rejection is claimed only if no earlier send is in doubt",
        '"phase": Phase.DOUBT if state.doubts else Phase.REJECTED', '"phase": Phase.REJECTED', (B + "test_states.py",)),
    Bug("a doubt is forgotten by a read that found nothing", "no row that was ever lost is called unsent",
        '"phase": Phase.DOUBT if state.lost else Phase.PLANNED', '"phase": Phase.PLANNED', (B + "test_states.py", B + "test_simulation.py")),
    Bug("a lost create is sent again", "nothing unrepeatable is done twice",
        "return Action.SEND if repeatable else Action.NOTHING", "return Action.SEND", (B + "test_states.py", B + "test_simulation.py")),
    Bug("nothing is read back", "unknown outcomes are read back",
        "if readable and (state.read is None or not repeatable):", "if False:", (B + "test_states.py", B + "test_simulation.py")),
    Bug("a refused key does not stop", "the first 401 or 403 stops the run",
        "return error if isinstance(error, AccessError) or not", "return error if not",
        (B + "test_runner.py::test_the_first_refusal_of_key_or_permission_stops_the_run_and_no_row_is_blamed",)),
    Bug("equal rejections go on", "the same rejection 20 times in a row stops",
        "0 < rules.equal_rejections <= self._equal:", "False:", (B + "test_runner.py::test_equal_rejections_in_a_row_stop_the_run",)),
    Bug("a plan is applied twice", "a plan is applied once",
        "if before is not None:\n            raise _applied(before)", "if False:\n            raise _applied(before)",
        (B + "test_command.py::test_a_plan_is_shown_and_sends_nothing_then_is_applied_once", B + "test_command.py::test_a_copy_of_the_plan_is_the_same_plan")),
    Bug("two processes apply one plan", "two processes cannot apply one plan",
        "portalocker.lock(handle, kind | LockFlags.NON_BLOCKING)", "pass", (B + "test_runs.py::test_a_lock_is_held_by_one", B + "test_killed.py::test_two_processes_cannot_apply_one_plan")),
    Bug("an edited plan is applied", "only the plan that was looked at is applied (law 1)",
        "if data[at : at + len(_ZEROS)] != seal.encode():", "if False:", (PLAN + "test_seal.py",)),
    Bug("a plan for another account", "to the account it was made for", "if account != header.account:", "if False:",
        (B + "test_command.py::test_a_plan_of_another_account_is_refused",)),
    Bug("a changed input is taken", "what was parsed and hashed is what is sent (law 1)",
        "not digest_fits(about.digest, table.sha256())", "False", (PLAN + "test_plan.py::test_secrets_are_refused_from_another_input",)),
    Bug("an intent without an outcome is no doubt", "rows that were under way at a kill are read back", "WHERE seq IN ({last}) AND kind = ?", "WHERE seq IN ({last}) AND kind = ? AND row < 0",
        (B + "test_journal.py::test_an_intent_without_an_outcome_is_a_doubt_when_it_is_opened_again", B + "test_simulation.py")),
    Bug("an edited journal is not noticed", "a later edit of the journal shows", "if chain != written:", "if False:",
        (B + "test_journal.py",)),
    Bug("what is so already is sent", "rows that are already so are never sent (law 4)",
        "IS NULL OR alike(c.{name}, i.f_{name}))", "IS NULL OR false)", (B + "test_command.py::test_the_same_file_again_sends_nothing",)),
    Bug("a value changed since the plan is written over", "who was changed since the plan is left alone",
        "and not same(row.old[name], held.get(name))", "and False", (B + "test_command.py::test_who_was_changed_since_the_plan_is_left_alone",)),
    Bug("an undo takes back another's change", "who was changed since the run is left alone in an undo",
        'if now.verdict == "send" and names:', "if False:",
        (B + "test_helpers.py::test_undo_leaves_alone_what_somebody_changed_since",)),
    Bug("a create in doubt is fed back", "a create whose answer was lost is in no file that is fed back",
        "return FAILED if BULK_OPERATIONS[operation].repeatable else frozenset({Outcome.REJECTED})", "return FAILED", (B + "test_helpers.py::test_a_create_whose_answer_was_lost_is_not_fed_back_but_found_by_a_later_resume",)),
    Bug("a copy that lacks a run is believed", "a copy that lacks a run is not believed (law 2)",
        'options = msgspec.structs.replace(options, refresh="live")', "pass", (B + "test_audit.py::test_a_locked_warehouse_loses_and_doubles_nothing",)),
    Bug("old result files stay", "no file lists a row as unsent that a later session sent",
        "for warning in run.discard_results():", "for said in ():", (B + "test_command.py::test_a_killed_resume_leaves_no_file_of_rows_that_were_sent_since",)),
    Bug("--yes passes a live key's threshold", "--yes alone does not get past a live key's thresholds (law 9)",
        'if chosen["yes"] and (guarded or question.after_canary):', "if False:", (B + "test_consent.py",)),
    Bug("a secret column in the results", "BVN and account numbers rest nowhere in clear",
        "masked(values[index], secret=True) if hide else values[index]", "values[index]",
        (B + "test_command.py::test_identity_verdicts_are_settled_later", "tests/test_canary.py")),
    Bug("a formula in a result file", "CSV results are guarded against spreadsheet formulas, reversibly (law 6)",
        'return "\'" + inside if _NEEDS_GUARD.match(text) else inside', "return text", (PLAN + "test_tables.py",)),
    Bug("a Ctrl-C kills what is under way", "Ctrl-C leaves nothing unknown and a run that can be resumed (law 8)",
        "before = {number: signal.signal(number, first) for number in signals}",
        "before = {number: signal.getsignal(number) for number in signals}", (B + "test_killed.py::test_an_interrupt_finishes_what_is_under_way_and_leaves_a_resumable_run",)),
    # -- what is shown
    Bug("control characters reach the terminal", "control characters never reach the terminal",
        'return INVISIBLE.sub("", ', "return str(", ("tests/terminal/test_terminal.py",)),
    Bug("a reader that leaves changes the outcome", "showing never changes an outcome (law 5)",
        "if error.errno not in _CLOSED and not (full", "if not (full", ("tests/terminal/test_terminal.py",)),
    Bug("the next command lacks its switches", "what we print can be pasted (law 6)",
        "return typed + _switches_text((*_LOCATION, ", "return typed + _switches_text((", (B + "test_fed_back.py", "tests/pipeline/test_query.py")),
    Bug("what was typed before the question answers it", "who agrees has seen the question (law 9)",
        "            _forget_typed(typed)\n", "", ("tests/terminal/test_terminal.py",)),
    # -- bulk changes that tell the truth: README and docs/bulk.md
    Bug("who is validated already is rejected", "an identity check that was made before is nothing to do, and stops no run",
        "(AlreadyValidated, EventKind.ALREADY, ALREADY_VALIDATED)", "(AlreadyValidated, EventKind.REJECTED, None)",
        (B + "test_identity.py::test_who_is_validated_already_is_nothing_to_do_and_stops_no_run",)),
    Bug("an identity check that was answered with 200 is verified", "an accepted identity check is pending: only the customer shows the verdict",
        "if self.operation.accepted_pending:", "if self.operation.accepted_pending and reply.status == 202:",
        (B + "test_runner.py::test_an_identity_check_that_was_accepted_has_no_verdict_yet_whatever_the_status",)),
    Bug("a helper returns after a Ctrl-C", "a Ctrl-C ends a loop over frames too, not only the run of one",
        "if report.stopped == INTERRUPTED:", "if False:", (B + "test_helpers.py::test_ctrl_c_while_rows_are_sent_ends_a_loop_over_frames_too",)),
    Bug("metadata that was not replaced is applied", "metadata whose keys Paystack kept is not called applied",
        'differing += ["metadata"] if _keeps_keys(job.row, data) else []', "pass",
        (B + "test_helpers.py::test_metadata_whose_keys_paystack_kept_is_not_called_applied",)),
    Bug("what a success echoes is kept", "BVN and account numbers rest nowhere in clear",
        'message = redact(envelope.message, values) if isinstance(envelope.message, str) else ""', 'message = envelope.message if isinstance(envelope.message, str) else ""',
        ("tests/test_canary.py::test_what_a_bulk_run_sends_and_paystack_echoes_rests_nowhere",)),
    Bug("the question hides who is denied", "whoever agrees sees what is dangerous (law 9)", "if before[value]]", "if False]",
        (B + "test_shown.py::test_the_question_names_the_action_and_what_is_dangerous_about_it",)),
    Bug("the question hides the loss of undo", "whoever agrees sees what is dangerous (law 9)", "    elif tally.unknown_old:\n", "    elif False:\n",
        (B + "test_shown.py::test_the_loss_of_undo_stands_in_the_question_itself",)),
    Bug("hidden rows are not spoken of", "whoever agrees sees what is dangerous (law 9)",
        'if hidden := sorted({*numbers[1:]}.intersection(about.get("hidden", ()))):', "if hidden := sorted(set()):", (PLAN + "test_tables.py::test_excel_says_what_is_hidden",)),
    Bug("the files of a day are counted one by one", "thresholds hold for a day's runs together", "        earlier=_sent_last_day(runs, operation, scope, now - TOGETHER.total_seconds(), run, warn),\n", "",
        (B + "test_shown.py::test_thresholds_are_counted_from_the_rows_and_for_a_day_together",)),
    Bug("what the canary stopped goes on by itself", "after a canary stop somebody is asked anew", "        after_canary=stopped_by_canary(stopped),\n", "        after_canary=False,\n",
        (B + "test_shown.py::test_a_resume_after_the_canary_stopped_asks_anew",)),
    Bug("an older journal is believed", "the journal is verified on every resume, undo and load", "if chain is None or chain != (entry.chain or chain):", "if False:",
        (B + "test_journal.py::test_a_journal_that_is_not_what_was_written_is_not_believed",)),
    Bug("somebody is asked about a damaged journal", "the journal is verified on every resume, undo and load", "            journal.verify()\n        scope", "            pass\n        scope",
        (B + "test_journal.py::test_nobody_is_asked_about_rows_that_an_edited_journal_calls_unsent",)),
    Bug("the environment alone says who it was", "the system's user stands beside the claimed one", "os_user=os_user())", 'os_user="")',
        (B + "test_journal.py::test_the_system_says_who_it_was_whatever_the_environment_claims",)),
    Bug("a guessed temporary file is written into", "temporary files are exclusive", "flags | (os.O_EXCL if new else 0)", "flags",
        (B + "test_planted.py::test_a_temporary_file_is_new_also_where_somebody_guessed_its_name",)),
    Bug("a folder that others fill is believed", "a results folder that others may write is refused", "if about.st_mode & _WRITABLE_BY_OTHERS:", "if False:",
        (B + "test_planted.py::test_a_folder_that_others_could_have_filled_is_refused",)),
    Bug("an output replaces anything", "outputs replace nothing but an earlier plan or page",
        "if not os.path.lexists(path) or (path.is_file() and not path.is_symlink() and is_ours(path)):", "if True:",
        (B + "test_planted.py::test_no_plan_and_no_page_replaces_what_is_not_ours",)),
    Bug("the audit does not know whom it created", "erasing leaves no byte of somebody who was just created", "return code, number if isinstance(number, int) else None", "return None, None",
        (B + "test_erase.py::test_the_recipe_leaves_no_byte_of_a_customer_who_was_just_created",)),
    Bug("one column holds one kind of name", "each cell of a customer's column is what it looks like",
        "mixed = naming[0] if len(naming) == 1 and len(identifiers) > 1 else None", "mixed = None", (PLAN + "test_checks.py::test_one_column_may_hold_codes_emails_and_ids",)),
    Bug("dlt injects the key", "no frame shows a key", "secret_key: SecretKey | str | None = None,\n", "secret_key: str | SecretKey | None = None,\n",
        ("tests/accounts/test_keys.py::test_no_frame_shows_the_key_when_a_source_or_a_run_fails",)),
    Bug("errors of the helpers hold what they were given", "no frame shows a key or a BVN", "            problem = stripped(error)\n        del args, kwargs\n", "            problem = error\n        del args, kwargs\n",
        (B + "test_helpers.py::test_a_traceback_with_local_variables_shows_no_key_and_no_bvn",)),
    Bug("a question may read files", "a question reads nothing but the copy", 'connection.execute("set enable_external_access = false")', 'str("")',
        (P + "test_query.py::test_it_reads_nothing_but_the_copy",)),
    # -- found from outside later, each once wrong
    Bug("a CSV is taken for a database", "a copy that is called complete is stored", "if start[8:] != MAGIC:", "if False:",
        (W + "test_trouble.py::test_a_file_that_duckdb_would_open_as_something_else",)),
    Bug("what a run appended stays doubled", "a table that a run appended to is mended by the next one",
        "if not table_layout(pipeline, table).every_version:", 'if schema.tables[table].get("write_disposition") == "merge":',
        (W + "test_dlt_users.py::test_who_appended_once_gets_one_row_of_each_again",)),
    Bug("what is sent once more counts twice", "thresholds hold for a day's runs together", "        if is_resumed:\n", "        if False:\n",
        (B + "test_shown.py::test_a_row_that_is_sent_once_more_is_counted_once",)),
    Bug("a card of two customers is a repetition", "one authorization that is named for two customers is refused",
        "of_others OR wants IS DISTINCT FROM", "wants IS DISTINCT FROM", (PLAN + "test_plan.py::test_one_authorization_is_not_of_two_customers",)),
    Bug("what Paystack holds is odd", "what Paystack holds is neutral (law 4)", "<> '' AND {doubted[kind]} THEN", "<> '' THEN",
        (PLAN + "test_plan.py::test_odd_texts_are_warned_of_only_where_they_are_sent",)),
    Bug("a lost zero is a change", "a phone that a spreadsheet made a number is not sent",
        'if "phone" in self.fields and not (self.only_missing or self.is_undo):', "if False:", (PLAN + "test_plan.py::test_a_phone_that_a_spreadsheet_made_a_number_is_not_sent",)),
    Bug("a lost letter is a name", "letters that a program could not save are not sent as question marks",
        r'r"[\pL\pM?]\?|\?[\pL\pM]"', 'r"^$"', (PLAN + "test_checks.py::test_letters_that_a_program_could_not_save_are_refused",)),
    Bug("a workbook keeps its apostrophes", "every result file is an input again (law 6), also as a workbook",
        "found.text = unguard(found.text)", "pass", (PLAN + "test_tables.py::test_a_workbook_keeps_the_apostrophes_of_a_result_file_that_was_opened",)),
    Bug("the last of two values counts", "of two values of an option that says what is sent or read none is taken",
        "if len(set(values)) > 1:", "if False:", ("tests/accounts/test_commands.py",)),
    Bug("a canary that cannot stop", "a canary of a share above 1 is refused", " or not 0 <= share <= 1:", ":",
        (B + "test_wrong_switches.py",)),
    Bug("an undo of half a run", "a run does not go on while its undo is planned", "with Runs(run.folder.parent).lock(plan):\n        run.check", "if True:\n        run.check",
        (B + "test_helpers.py::test_a_run_does_not_go_on_while_its_undo_is_planned",)),
    Bug("nothing to change is an error", "an empty list is no error of any helper", "if frame.shape == (0, 0):", "if False:",
        (B + "test_helpers.py",)),
    Bug("one of two values in JSON counts", "a key that stands twice in metadata is refused", "    return any(found)\n", "    return False\n",
        (PLAN + "test_checks.py::test_a_key_that_stands_twice_in_metadata_is_refused",)),
    Bug("a bank's name is a code", "a bank's name is no code", '(r"\\s", "holds a space, as the name', '(r"^$", "holds a space, as the name',
        (PLAN + "test_checks.py",)),
    Bug("a switch without a meaning is taken", "switches that mean nothing for this file are refused",
        "if value is not None and option not in", "if False and option not in", (B + "test_wrong_switches.py",)),
    Bug("a dataset that is not there is answered from main", "a dataset that is named is the one that answers",
        "if named and dataset not in there:", "if False:", (P + "test_query.py::test_a_dataset_that_is_not_there_is_not_answered_from_another",)),
    Bug("an interrupt that was dropped is forgotten", "SIGTERM ends a run as Ctrl-C does",
        "    _Interrupt.raised = True\n    raise KeyboardInterrupt", "    raise KeyboardInterrupt", ("tests/test_interrupts.py::test_one_that_is_lost_just_before_the_end_is_raised_all_the_same",)),
    Bug("a clock that was ahead stops the refresh", "edits of old customers arrive within the stated number of runs",
        "if item.age_key > self._started:", "if False:", (E + "test_extraction.py::test_a_run_whose_clock_was_ahead_keeps_nobody_from_being_read_again",)),
    Bug("a create of a known customer names them in the copy", "the copy holds what Paystack holds",
        "changed = applied and part.code != EXISTS", "changed = applied", (B + "test_audit.py::test_created_customers_are_in_the_copy_at_once",)),
    Bug("a copy of a run speaks for the run", "a run that was copied goes on where it was",
        "if entry.is_of(folder)]", "if entry.run_id == folder.name]", (B + "test_command.py::test_identity_verdicts_are_settled_later",)),
    Bug("who left before the load counts as a customer", "who vanishes is marked, or never counted",
        'set(self._new_in(window).column("id").to_pylist())', "set()", (E + "test_extraction.py::test_one_who_vanishes_while_a_first_load_is_read_is_marked_by_it_or_never_counted",)),
]  # fmt: skip


def place_of(bug: Bug, root: Path) -> Path:
    """The one file of the package that holds the text. Raises `SystemExit` if there is none, or it is there twice."""
    found = [
        (path, count)
        for folder in ("paystack_source", "pipelines")
        for path in sorted((root / folder).rglob("*.py"))
        if (count := path.read_text(encoding="utf-8").count(bug.old))
    ]
    if sum(count for _, count in found) != 1:
        where = ", ".join(f"{path.relative_to(root)}: {count}" for path, count in found) or "nowhere"
        raise SystemExit(f"{bug.name!r}: its text must be in the package exactly once; it is in: {where}")
    return found[0][0]


def checkout(folder: Path) -> Path:
    """A copy of what git knows, with the environment of this checkout."""
    root = folder / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    (root / ".venv").symlink_to(ROOT / ".venv")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)  # some tests ask git
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    return root


def first_failure(root: Path, *tests: str) -> str | None:
    """The first test that fails there; `None` if none does. Raises `SystemExit` if the tests cannot be run."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", *tests]
    env = os.environ | {"PYTHONPATH": str(root)}
    try:
        done = subprocess.run(
            command, cwd=root, env=env, capture_output=True, text=True, check=False, timeout=LONGEST
        )
    except subprocess.TimeoutExpired:
        return "a run that does not end"
    if done.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (\S+?)(?:\[| |$)", done.stdout, flags=re.MULTILINE)
    if failed is None:
        raise SystemExit(f"pytest ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return failed[1]


def outcome(bug: Bug, root: Path, *, quick: bool) -> str:
    """Plant a bug, look, and take it out again: a cell of the page."""
    place = place_of(bug, root)
    before = place.read_text(encoding="utf-8")
    place.write_text(before.replace(bug.old, bug.new), encoding="utf-8")
    try:
        if test := first_failure(root, *bug.tests):
            return f"caught by `{test}`"
        if quick:
            return "missed by its tests"
        test = first_failure(root, "-n", JOBS)
        return f"caught by `{test}`" if test else "**missed**"
    finally:
        place.write_text(before, encoding="utf-8")


HEAD = """# Planted bugs

Faults that somebody could make, at least one for each promise of the documents and each law of the design.
`make planted-bugs` plants one at a time in a copy of the checkout, and runs the tests. A bug that no test notices
shows that a promise is not held. The table of the bugs is `tests/planted_bugs.py`; this page is what the last runs said.

| bug | promise | what happened |
| --- | --- | --- |
"""


def write_page(found: dict[str, str]) -> None:
    """The page, with what earlier runs said of the other bugs."""
    known = {}
    if PAGE.is_file():
        rows = (
            line.split(" | ")
            for line in PAGE.read_text(encoding="utf-8").splitlines()
            if line.startswith("| ")
        )
        known = {row[0].removeprefix("| "): row[-1].removesuffix(" |") for row in rows}
    lines = [
        f"| {bug.name} | {bug.promise} | {found.get(bug.name) or known.get(bug.name, 'not run yet')} |"
        for bug in BUGS
    ]
    PAGE.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    """The number of bugs that were missed, 1 at most."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true")
    chosen = parser.parse_args()
    for bug in BUGS:
        place_of(bug, ROOT)
    if unknown := set(chosen.names) - {bug.name for bug in BUGS}:
        raise SystemExit(f"There is no bug called {', '.join(sorted(unknown))}.")
    if chosen.check:
        return 0
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        root = checkout(Path(folder))
        for bug in BUGS:
            if not chosen.names or bug.name in chosen.names:
                found[bug.name] = outcome(bug, root, quick=chosen.quick)
                sys.stdout.write(f"{bug.name}: {found[bug.name]}\n")
                sys.stdout.flush()
                write_page(found)
    return int(any("missed" in said for said in found.values()))


if __name__ == "__main__":
    sys.exit(main())
