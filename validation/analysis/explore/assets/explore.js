// Callbacks of the page that run in the browser, without a request to the server.
window.dash_clientside = Object.assign({}, window.dash_clientside, {
    explore: {
        // Makes the table request its rows again after a change of the filter, the rules or the review decisions.
        refreshTable: function () {
            try {
                dash_ag_grid.getApi("table").purgeInfiniteCache();
            } catch (error) {
                // The table is not drawn yet. It will request its rows when it is drawn.
            }
            return window.dash_clientside.no_update;
        },
    },
});
