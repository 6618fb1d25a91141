"""The events of a run, as objects of OpenLineage's client. They hold names, types, comments and sizes, never a row."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import cast

from msgspec import UNSET
from openlineage.client import event_v2 as api  # optional extra
from openlineage.client.facet_v2 import (  # optional extra
    column_lineage_dataset,
    dataset_version_dataset,
    documentation_dataset,
    error_message_run,
    input_statistics_input_dataset,
    job_type_job,
    output_statistics_output_dataset,
    processing_engine_run,
    schema_dataset,
    storage_dataset,
)
from openlineage.client.generated.base import DatasetFacet, RunFacet  # optional extra

from floodmark.model import TableEntry, TableName
from floodmark.openlineage.datasets import DatasetName, landed_name, source_names
from floodmark.openlineage.trace import RunTrace
from floodmark.state.manifest import Manifest
from floodmark.version import __version__

# Who made events and facets, as a URI.
PRODUCER = f"urn:floodmark:{__version__}"
api.set_producer(PRODUCER)
# OpenLineage wants a UUID, so a run's is made of its id.
_RUN_IDS = uuid.UUID("5b0c5b0e-6f0e-5f6c-9c5e-3f1b8f1f0d01")
# More columns would make the lineage of columns larger than all the rest of an event.
MOST_COLUMNS = 5000


def run_uuid(run_id: str) -> str:
    """Return the run's id in OpenLineage."""
    return str(uuid.uuid5(_RUN_IDS, run_id))


def event_of(trace: RunTrace) -> api.RunEvent:
    """Return the event."""
    manifest = trace.manifest
    kind = job_type_job.JobTypeJobFacet(processingType="BATCH", integration="FLOODMARK", jobType="EXTRACTION")
    return api.RunEvent(
        eventTime=trace.time,
        producer=PRODUCER,
        eventType=api.RunState(trace.state),
        run=api.Run(runId=run_uuid(trace.run_id), facets=_run_facets(trace)),
        job=api.Job(namespace=trace.namespace, name=trace.job, facets={"jobType": kind}),
        inputs=[] if manifest is None else list(_inputs(manifest, trace.source)),
        outputs=[] if manifest is None else list(_outputs(manifest, trace.source)),
    )


def _run_facets(trace: RunTrace) -> dict[str, RunFacet]:
    own = RunFacet().with_additional_properties(runId=trace.run_id, manifest=trace.manifest_key)
    facets: dict[str, RunFacet] = {"floodmark": cast(RunFacet, own)}
    if trace.problem is not None:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(trace.problem, "PYTHON")
    if trace.manifest is not None:
        source = trace.manifest.source
        facets["processing_engine"] = processing_engine_run.ProcessingEngineRunFacet(
            version=source.server_version, name=source.dialect, openlineageAdapterVersion=__version__
        )
    return facets


def read_tables(manifest: Manifest) -> list[TableEntry]:
    """Return the tables whose snapshot is this run's: it read them, or proved them unchanged."""
    return [one for one in manifest.attempted if one.status in ("extracted", "unchanged")]


def _namer(manifest: Manifest, source: str) -> Callable[[TableName], DatasetName]:
    return source_names(source, manifest.source.dialect, manifest.source.database)


def _inputs(manifest: Manifest, source: str) -> Iterable[api.InputDataset]:
    name_of = _namer(manifest, source)
    for entry in read_tables(manifest):
        name = name_of(entry.table)
        counted = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rowCount=entry.rows)
        yield api.InputDataset(
            namespace=name.namespace,
            name=name.name,
            facets=_described(entry),
            inputFacets={"inputStatistics": counted},
        )


def _outputs(manifest: Manifest, source: str) -> Iterable[api.OutputDataset]:
    entries, name_of = read_tables(manifest), _namer(manifest, source)
    by_column = sum(len(entry.columns) for entry in entries) <= MOST_COLUMNS
    layer = "s3" if manifest.destination.startswith("s3://") else "file"
    for entry in entries:
        name, format_ = landed_name(manifest, entry), entry.encoding.format if entry.encoding is not None else "jsonl"
        facets = _described(entry)
        facets["storage"] = storage_dataset.StorageDatasetFacet(storageLayer=layer, fileFormat=format_)
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=entry.checksum or "")
        if by_column:
            facets["columnLineage"] = _column_lineage(entry, name_of(entry.table))
        written = [one for one in entry.objects if one.origin == "extracted"] if entry.status == "extracted" else []
        counted = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=sum(one.rows for one in written),
            size=sum(one.stored_bytes for one in written),
            fileCount=len(written),
        )
        yield api.OutputDataset(
            namespace=name.namespace, name=name.name, facets=facets, outputFacets={"outputStatistics": counted}
        )


def _described(entry: TableEntry) -> dict[str, DatasetFacet]:
    fields = [
        schema_dataset.SchemaDatasetFacetFields(
            name=column.name,
            type=column.type,
            description=None if column.comment is UNSET else column.comment,
            ordinal_position=number,
        )
        for number, column in enumerate(entry.columns, start=1)
    ]
    facets: dict[str, DatasetFacet] = {"schema": schema_dataset.SchemaDatasetFacet(fields=fields)}
    if entry.comment is not UNSET:
        facets["documentation"] = documentation_dataset.DocumentationDatasetFacet(description=entry.comment)
    return facets


def _column_lineage(entry: TableEntry, source: DatasetName) -> DatasetFacet:
    """Return each column's own origin. Without it, every table of the lake would seem to come from every table."""
    fields = {
        column.name: column_lineage_dataset.Fields(
            inputFields=[
                column_lineage_dataset.InputField(namespace=source.namespace, name=source.name, field=column.name)
            ]
        )
        for column in entry.columns
    }
    return column_lineage_dataset.ColumnLineageDatasetFacet(fields=fields)
