// Draws one dashboard: everything that a panel shows comes from its JSON and from the frames of its queries.
//
// Values, units, colours, legends, tables and charts are made by @grafana/data and @grafana/ui. What Grafana keeps in its
// application, and not in these packages, is here: how a panel's options become their properties, and the marks.
import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import React from 'react';
import { createRoot } from 'react-dom/client';
import {
  applyFieldOverrides,
  createTheme,
  dateTime,
  FieldConfigOptionsRegistry,
  getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
  identityOverrideProcessor,
  standardTransformers,
  standardTransformersRegistry,
  toDataFrame,
  transformDataFrame,
} from '@grafana/data';
import { BigValue, GlobalStyles, PanelChrome, Table, ThemeContext, TimeSeries, VizRepeater } from '@grafana/ui';

const { dashboard, width, span, places, panels, marks, note } = window.picture;
const theme = createTheme();
const timeZone = 'utc';
const from = dateTime(span.start * 1000);
const to = dateTime(span.end * 1000);
const timeRange = { from, to, raw: { from, to } };

// Grafana's defaults for what a panel leaves out (getAllStandardFieldConfigs, and each panel's own defaults).
const GREEN_TO_RED = { mode: 'absolute', steps: [{ value: -Infinity, color: 'green' }, { value: 80, color: 'red' }] };
const DEFAULTS = {
  stat: { color: { mode: 'thresholds' } },
  table: { color: { mode: 'thresholds' }, custom: { align: 'auto', cellOptions: { type: 'auto' }, inspect: false } },
  timeseries: {
    color: { mode: 'palette-classic' },
    custom: {
      drawStyle: 'line',
      lineInterpolation: 'linear',
      lineWidth: 1,
      fillOpacity: 0,
      showPoints: 'auto',
      pointSize: 5,
      axisPlacement: 'auto',
      spanNulls: false,
      scaleDistribution: { type: 'linear' },
    },
  },
};

standardTransformersRegistry.setInit(() => [
  { id: 'organize', name: 'organize', transformation: standardTransformers.organizeFieldsTransformer },
]);

function option(path, isCustom = false) {
  const id = isCustom ? `custom.${path}` : path;
  const rest = { process: identityOverrideProcessor, shouldApply: () => true, override: () => null, editor: () => null };
  return { id, path, name: path, isCustom, settings: {}, ...rest };
}

/** Grafana's registry of what a field can be told, as far as the dashboards tell it. */
function registryOf(panel) {
  const custom = new Set(Object.keys(DEFAULTS[panel.type].custom ?? {}));
  Object.keys(panel.fieldConfig.defaults.custom ?? {}).forEach((name) => custom.add(name));
  panel.fieldConfig.overrides.forEach((each) =>
    each.properties.filter(({ id }) => id.startsWith('custom.')).forEach(({ id }) => custom.add(id.slice(7)))
  );
  const standard = ['unit', 'min', 'max', 'decimals', 'noValue', 'displayName', 'mappings', 'thresholds', 'color'];
  return new FieldConfigOptionsRegistry(() => [
    ...standard.map((path) => option(path)),
    ...[...custom].map((path) => option(path, true)),
  ]);
}

function configOf(panel) {
  const own = panel.fieldConfig.defaults;
  const usual = DEFAULTS[panel.type];
  const thresholds = own.thresholds ?? GREEN_TO_RED;
  const steps = thresholds.steps.map((step) => ({ ...step, value: step.value ?? -Infinity }));
  return {
    defaults: {
      ...usual,
      ...own,
      thresholds: { ...thresholds, steps },
      custom: { ...usual.custom, ...own.custom },
    },
    overrides: panel.fieldConfig.overrides,
  };
}

/** Prometheus sends numbers as texts, among them NaN, +Inf and -Inf. */
function number(text) {
  return text.endsWith('Inf') ? Number(`${text}inity`) : Number(text);
}

function frameOf(frame) {
  const fields = frame.fields.map((field) =>
    field.type === 'number' ? { ...field, values: field.values.map(number) } : field
  );
  return toDataFrame({ ...frame, fields });
}

async function seriesOf(panel) {
  const frames = panels[panel.id].map(frameOf);
  const transformed = await new Promise((done) =>
    transformDataFrame(panel.transformations ?? [], frames).subscribe(done)
  );
  return applyFieldOverrides({
    data: transformed,
    fieldConfig: configOf(panel),
    fieldConfigRegistry: registryOf(panel),
    replaceVariables: (text) => text,
    theme,
    timeZone,
  });
}

function NoData({ panel }) {
  const style = { display: 'flex', height: '100%', alignItems: 'center', justifyContent: 'center' };
  return <div style={{ ...style, color: theme.colors.text.secondary }}>{panel.fieldConfig.defaults.noValue ?? 'No data'}</div>;
}

function Stat({ panel, series, width, height }) {
  const { options } = panel;
  const values = () =>
    getFieldDisplayValues({
      fieldConfig: configOf(panel),
      reduceOptions: options.reduceOptions,
      replaceVariables: (text) => text,
      theme,
      data: series,
      sparkline: options.graphMode !== 'none',
      timeZone,
    });
  return (
    <VizRepeater
      getValues={values}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={({ value, alignmentFactors, width, height, count, orientation }) => (
        <BigValue
          value={value.display}
          count={count}
          colorMode={options.colorMode}
          graphMode={options.graphMode}
          justifyMode={options.justifyMode}
          textMode={options.textMode}
          wideLayout={options.wideLayout}
          alignmentFactors={alignmentFactors}
          parentOrientation={orientation}
          width={width}
          height={height}
          theme={theme}
        />
      )}
      width={width}
      height={height}
      source={series}
      itemSpacing={3}
      renderCounter={0}
      autoGrid={true}
      orientation={options.orientation}
    />
  );
}

function TableOf({ panel, series, width, height }) {
  const frame = series[panel.options.frameIndex];
  if (frame === undefined || frame.length === 0) {
    return <NoData panel={panel} />;
  }
  return (
    <Table
      data={frame}
      width={width}
      height={height}
      noHeader={!panel.options.showHeader}
      initialSortBy={panel.options.sortBy}
      cellHeight={panel.options.cellHeight}
      timeRange={timeRange}
    />
  );
}

/** A dashed line and a triangle below it for each mark, as Grafana draws them. */
function Marks({ config }) {
  React.useLayoutEffect(() => {
    config.addHook('draw', (plot) => {
      const { ctx, bbox } = plot;
      ctx.save();
      for (const mark of marks) {
        const x = plot.valToPos(mark.time, 'x', true);
        ctx.strokeStyle = ctx.fillStyle = theme.visualization.getColorByName(mark.color);
        ctx.lineWidth = 2;
        ctx.setLineDash([5, 5]);
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
        ctx.beginPath();
        ctx.moveTo(x, bbox.top + bbox.height);
        ctx.lineTo(x - 5, bbox.top + bbox.height + 6);
        ctx.lineTo(x + 5, bbox.top + bbox.height + 6);
        ctx.fill();
      }
      ctx.restore();
    });
  }, [config]);
  return null;
}

function Chart({ panel, series, width, height }) {
  if (series.length === 0) {
    return <NoData panel={panel} />;
  }
  return (
    <TimeSeries
      frames={series}
      structureRev={1}
      timeRange={timeRange}
      timeZone={timeZone}
      width={width}
      height={height}
      legend={panel.options.legend}
      options={panel.options}
    >
      {(config) => <Marks config={config} />}
    </TimeSeries>
  );
}

const KINDS = { stat: Stat, table: TableOf, timeseries: Chart };

function Panel({ panel, series, place }) {
  const Kind = KINDS[panel.type];
  return (
    <div style={{ position: 'absolute', ...place }}>
      <PanelChrome title={panel.title} description={panel.description} width={place.width} height={place.height}>
        {(width, height) => <Kind panel={panel} series={series} width={width} height={height} />}
      </PanelChrome>
    </div>
  );
}

function Dashboard({ drawn }) {
  const bottom = Math.max(...drawn.map(({ place }) => place.top + place.height));
  const clock = (time) => time.utc().format('YYYY-MM-DD HH:mm');
  const grey = { color: theme.colors.text.secondary };
  return (
    <div style={{ background: theme.colors.background.canvas, padding: 16, width: width + 32 }} data-drawn>
      <div style={{ display: 'flex', gap: 24, alignItems: 'baseline', marginBottom: 12 }}>
        <span style={{ fontSize: 20 }}>{dashboard.title}</span>
        {dashboard.templating.list.map(({ name, label, current }) => (
          <span key={name}>
            <span style={grey}>{label}</span> {current.text}
          </span>
        ))}
        <span style={{ flexGrow: 1 }} />
        <span>
          {clock(from)} to {clock(to)} <span style={grey}>UTC</span>
        </span>
      </div>
      <div style={{ position: 'relative', height: bottom }}>
        {drawn.map((each) => (
          <Panel key={each.panel.id} {...each} />
        ))}
      </div>
      <div style={{ ...grey, marginTop: 12 }}>{note}</div>
    </div>
  );
}

async function draw() {
  const all = dashboard.panels.map(async (panel) => ({
    panel,
    series: await seriesOf(panel),
    place: places[panel.id],
  }));
  const drawn = await Promise.all(all);
  // A chart measures its labels once, so the fonts must be there before.
  await Promise.all([400, 500].map((weight) => document.fonts.load(`${weight} 14px Inter`)));
  createRoot(document.getElementById('page')).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <Dashboard drawn={drawn} />
    </ThemeContext.Provider>
  );
}

draw().catch((error) => {
  window.failure = `${error.stack}`;
});
